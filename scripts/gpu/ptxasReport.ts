/**
 * The build gate of the CUDA kernels: compiles native/cuda/*.cu and compares ptxas's report with native/cuda/ptxas.json. Fails on local
 * memory (stack, spills), on more registers or static shared memory than the table grants, and on kernels that the table does not have.
 *
 *   ts-node scripts/gpu/ptxasReport.ts [--all | --arch 80]... [--update] [part of a file name]...
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';

const root = path.join(__dirname, '..', '..');
const sources = path.join(root, 'native', 'cuda');
const tableFile = path.join(sources, 'ptxas.json');
/** What releases hold machine code for. */
const architectures = ['80', '86', '89', '90'];

/** Registers per thread and bytes of static shared memory; the kernel's name is its key. */
export type Usage = [registers: number, sharedBytes: number];
/** Architecture, file, kernel. */
export type Table = Record<string, Record<string, Record<string, Usage>>>;

export interface Kernel {
  name: string;
  registers: number;
  sharedBytes: number;
  /** Bytes in local memory: stack frame, spill stores, spill loads. */
  local: [number, number, number];
}

/** Reads what `nvcc -Xptxas -v` writes; names are still mangled. */
export function parseReport(text: string): Kernel[] {
  const kernels: Kernel[] = [];
  for (const part of text.split(/Compiling entry function '/).slice(1)) {
    const name = /^[^']+/.exec(part)?.[0];
    const local = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part);
    const registers = /Used (\d+) registers/.exec(part);
    if (name === undefined || local === null || registers === null)
      throw new Error(`ptxas's report has a part without figures:\n${part}`);
    const shared = /(\d+) bytes smem/.exec(part);
    kernels.push({
      name,
      registers: Number(registers[1]),
      sharedBytes: Number(shared?.[1] ?? 0),
      local: [Number(local[1]), Number(local[2]), Number(local[3])],
    });
  }
  return kernels;
}

/** What is wrong with the kernels of a file, given its part of the table. */
export function problems(kernels: readonly Kernel[], granted: Record<string, Usage>): string[] {
  const found: string[] = [];
  for (const { name, registers, sharedBytes, local } of kernels) {
    const [stack, stores, loads] = local;
    if (stack + stores + loads > 0) {
      found.push(`${name}: local memory: ${stack} bytes of stack, spills of ${stores} bytes stored, ${loads} loaded`);
    }
    const usage = Object.hasOwn(granted, name) ? granted[name] : undefined;
    if (usage === undefined) {
      found.push(`${name}: not in the table`);
      continue;
    }
    if (registers > usage[0]) found.push(`${name}: ${registers} registers, the table grants ${usage[0]}`);
    if (sharedBytes > usage[1])
      found.push(`${name}: ${sharedBytes} bytes of shared memory, the table grants ${usage[1]}`);
  }
  const present = new Set(kernels.map(({ name }) => name));
  for (const name of Object.keys(granted))
    if (!present.has(name)) found.push(`${name}: in the table, but no longer compiled`);
  return found;
}

/** Readable names without what is the same in all of them. */
function demangled(kernels: readonly Kernel[]): Kernel[] {
  if (kernels.length === 0) return [];
  const input = kernels.map(({ name }) => name).join('\n');
  const names = execFileSync('c++filt', { input, encoding: 'utf8' }).trim().split('\n');
  const named = kernels.map((kernel, index) => {
    const short = (names[index] as string)
      .replace(/\(anonymous namespace\)::/g, '')
      .replace(/xlformers::cuda::/g, '')
      .replace(/xlformers::/g, '')
      .replace(/^void /, '');
    // The arguments follow from the template's parameters and the name, unless there are none.
    return { ...kernel, name: short.includes('<') ? withoutArguments(short) : short };
  });
  const twice = named.find(({ name }, index) => named.findIndex((other) => other.name === name) !== index);
  if (twice !== undefined)
    throw new Error(`two kernels are called ${twice.name}: tell them apart by their names or template parameters`);
  return named;
}

/** `kernel<float, 4>(Args<float>, int)` without its last pair of brackets. */
function withoutArguments(name: string): string {
  let depth = 0;
  for (let index = name.length - 1; index >= 0; index -= 1) {
    if (name[index] === ')') depth += 1;
    if (name[index] === '(') depth -= 1;
    if (depth === 0) return name.slice(0, index);
  }
  return name;
}

async function compile(file: string, architecture: string, folder: string): Promise<Kernel[]> {
  const target = `arch=compute_${architecture},code=sm_${architecture}`;
  const out = path.join(folder, `${path.basename(file)}.${architecture}.cubin`);
  const args = [
    '-std=c++17',
    '-O3',
    '-w',
    '-cubin',
    '-gencode',
    target,
    '-I',
    path.join(root, 'native'),
    '-Xptxas',
    '-v',
    '-o',
    out,
    file,
  ];
  const { stderr } = await promisify(execFile)('nvcc', args, { maxBuffer: 1 << 28 });
  return demangled(parseReport(stderr));
}

/** Sorted keys, one kernel per line. */
function format(table: Table): string {
  const object = (
    value: Record<string, unknown>,
    indent: string,
    entry: (inner: never, indent: string) => string,
  ): string =>
    `{\n${Object.keys(value)
      .sort()
      .map((key) => `${indent}  ${JSON.stringify(key)}: ${entry(value[key] as never, `${indent}  `)}`)
      .join(',\n')}\n${indent}}`;
  const usage = ([registers, shared]: Usage) => `[${registers}, ${shared}]`;
  return `${object(table, '', (files: Table[string], indent) =>
    object(files, indent, (kernels: Record<string, Usage>, inner) => object(kernels, inner, usage as never)),
  )}\n`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { all: { type: 'boolean' }, arch: { type: 'string', multiple: true }, update: { type: 'boolean' } },
  });
  const wanted = values.all ? architectures : (values.arch ?? ['90']);
  const table = JSON.parse(readFileSync(tableFile, 'utf8')) as Table;
  const files = readdirSync(sources)
    .filter(
      (name) => name.endsWith('.cu') && (positionals.length === 0 || positionals.some((part) => name.includes(part))),
    )
    .sort();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-ptxas-'));
  let bad = 0;
  let count = 0;
  const one = async (architecture: string, file: string) => {
    const kernels = await compile(path.join(sources, file), architecture, folder);
    count += kernels.length;
    const own = (table[`sm_${architecture}`] ??= {});
    const spilled = kernels.filter(({ local }) => local.some((bytes) => bytes > 0));
    if (values.update)
      own[file] = Object.fromEntries(
        kernels.map(({ name, registers, sharedBytes }) => [name, [registers, sharedBytes]]),
      );
    for (const problem of problems(values.update ? spilled : kernels, values.update ? {} : (own[file] ?? {}))) {
      if (values.update && problem.endsWith('not in the table')) continue;
      bad += 1;
      console.log(`sm_${architecture} ${file}: ${problem}`);
    }
  };
  try {
    const queue = wanted.flatMap((architecture) => files.map((file) => [architecture, file] as const));
    await Promise.all(
      Array.from({ length: os.availableParallelism() }, async () => {
        for (let next = queue.shift(); next !== undefined; next = queue.shift()) await one(...next);
      }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (values.update) {
    for (const own of Object.values(table)) {
      if (positionals.length === 0) for (const file of Object.keys(own)) if (!files.includes(file)) delete own[file];
    }
    writeFileSync(tableFile, format(table));
  }
  console.log(
    `${count} kernels for ${wanted.map((name) => `sm_${name}`).join(', ')}: ${bad === 0 ? 'all within the table' : `${bad} problems`}`,
  );
  process.exitCode = bad === 0 ? 0 : 1;
}

if (require.main === module) void main();
