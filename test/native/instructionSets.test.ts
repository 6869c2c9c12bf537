/** Every instruction set that this machine can run, not only the best one: all operators give the same, whatever the threads. */
import { execFile, execFileSync } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { epsilon, expectClose } from '../support/operators';
import { operatorCases, toleranceOf } from '../support/operatorCases';
import { addonPath } from './support/addonPath';

interface Line {
  name: string;
  dtype: 'float32' | 'float64';
  kinds: string[];
  outputs: string[];
  gradients: (string | null)[];
}

interface Backend {
  devices: { detail: string }[];
  reason: string | null;
}

const known = ['baseline', 'avx2', 'avx512', 'neon'];

function cpuBackend(set: string): Backend {
  const program = `console.log(JSON.stringify(require(${JSON.stringify(path.resolve(addonPath))}).backends()[0]))`;
  const env = { ...process.env, XLFORMERS_CPU_ISA: set };
  return JSON.parse(execFileSync(process.execPath, ['-e', program], { env, encoding: 'utf8' })) as Backend;
}

const backends = known.map((set) => [set, cpuBackend(set)] as const);
const sets = backends.filter(([, { devices }]) => devices.length > 0).map(([set]) => set);

async function results(set: string, threads: number): Promise<string[]> {
  const program = path.join(__dirname, 'programs', 'operators.ts');
  const { stdout } = await promisify(execFile)(process.execPath, ['-r', 'ts-node/register/transpile-only', program], {
    env: { ...process.env, XLFORMERS_CPU_ISA: set, XLFORMERS_NUM_THREADS: String(threads) },
    maxBuffer: 2 ** 30,
  });
  return stdout.trimEnd().split('\n');
}

const arrays = { Float32Array, Float64Array, Int32Array, Uint8Array };

function values(base64: string, kind: string): ArrayLike<number> {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  return new arrays[kind as keyof typeof arrays](bytes.buffer);
}

/** Outputs and gradients of a line, as numbers. */
function numbers({ dtype, kinds, outputs, gradients }: Line): [what: string, values: ArrayLike<number>][] {
  const float = dtype === 'float32' ? 'Float32Array' : 'Float64Array';
  return [
    ...outputs.map((output, index) => [`output ${index}`, values(output, kinds[index]!)] as [string, ArrayLike<number>]),
    ...gradients.flatMap((gradient, index) =>
      gradient === null ? [] : [[`gradient ${index}`, values(gradient, float)] as [string, ArrayLike<number>]],
    ),
  ];
}

test('the machine runs a set for any processor, and names the one it runs', () => {
  expect(sets).toContain(process.arch === 'arm64' ? 'neon' : 'baseline');
  for (const [set, { devices }] of backends) {
    if (devices.length > 0) expect(devices[0]!.detail).toContain(set);
  }
});

test('a set that this processor lacks, or nobody knows, is refused by name', () => {
  const absent = backends.filter(([, { devices }]) => devices.length === 0);
  for (const [set, { reason }] of [...absent, ['sse9', cpuBackend('sse9')] as const]) {
    expect(reason).toMatch(new RegExp(`^XLFORMERS_CPU_ISA=${set}: (this CPU lacks it|not built)`));
  }
});

/** What the first set gives. */
let reference: string[] | undefined;

describe.each(sets)('%s', (set) => {
  let own: string[];
  beforeAll(async () => {
    own = await results(set, 1);
    reference ??= own;
  });

  test('every operator gives the same bits on one thread and on three', async () => {
    const threaded = await results(set, 3);
    expect(threaded.length).toBe(2 * operatorCases.length);
    const different = own.filter((line, index) => line !== threaded[index]);
    expect(different.map((line) => (JSON.parse(line) as Line).name)).toEqual([]);
  });

  test('every operator gives what the first set gives', () => {
    own.forEach((line, index) => {
      const [mine, theirs] = [line, reference![index]!].map((each) => JSON.parse(each) as Line) as [Line, Line];
      const each = operatorCases[index >> 1]!;
      expect([mine.name, mine.dtype]).toEqual([each.name, theirs.dtype]);
      const others = numbers(theirs);
      numbers(mine).forEach(([what, actual], position) =>
        expectClose(actual, others[position]![1], toleranceOf(each, epsilon[mine.dtype]), `${each.name}, ${mine.dtype}, ${what}`),
      );
    });
  });
});
