import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import manifest from '../../package.json';

const root = path.join(__dirname, '..', '..');
const consumer = mkdtempSync(path.join(os.tmpdir(), 'xlformers-consumer-'));
afterAll(() => rmSync(consumer, { recursive: true, force: true }));

/** A project beside which npm has installed the package. */
beforeAll(() => {
  const modules = path.join(consumer, 'node_modules');
  mkdirSync(modules);
  symlinkSync(root, path.join(modules, manifest.name), 'dir');
  symlinkSync(path.join(root, 'node_modules', '@types'), path.join(modules, '@types'), 'dir');
});

async function run(args: string[]): Promise<string> {
  try {
    return (await promisify(execFile)(process.execPath, args, { cwd: consumer })).stdout.trim();
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(stdout + stderr, { cause: error });
  }
}

const program = `
  const sum = Tensor.full([2], 3, { device: 'cpu' });
  sum.data().then((data) => console.log(data[1]));`;

test.each([
  ['CommonJS', 'program.cjs', `const { Tensor } = require('${manifest.name}');`],
  ['an ES module', 'program.mjs', `import { Tensor } from '${manifest.name}';`],
])('%s finds the package', async (_, name, head) => {
  writeFileSync(path.join(consumer, name), head + program);
  expect(await run([name])).toBe('3');
});

test('files that the package does not offer stay inside', async () => {
  writeFileSync(path.join(consumer, 'inside.cjs'), `require('${manifest.name}/dist/lib/native.js')`);
  await expect(run(['inside.cjs'])).rejects.toThrow('ERR_PACKAGE_PATH_NOT_EXPORTED');
});

const typed = `
const model = new TransformerXLLMHeadModel({ vocabSize: 256, nLayer: 1 }, { seed: 1 });
const values: Promise<ArrayLike<number>> = Tensor.full([2], 3).data();
export function codeOf(error: unknown): string | undefined {
  return error instanceof XlformersError ? error.code : undefined;
}
// @ts-expect-error: shapes are arrays
Tensor.full(2, 3);
export { model, values };
`;

test('its types serve both kinds of modules', async () => {
  const names = 'Tensor, TransformerXLLMHeadModel, XlformersError';
  for (const extension of ['cts', 'mts']) {
    writeFileSync(path.join(consumer, `typed.${extension}`), `import { ${names} } from '${manifest.name}';\n${typed}`);
  }
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2022', 'esnext.disposable'],
    module: 'node16',
    strict: true,
    noEmit: true,
    types: ['node'],
  };
  writeFileSync(
    path.join(consumer, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['typed.cts', 'typed.mts'] }),
  );
  await run([path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', '.']);
});

test('every file that package.json names exists', () => {
  const { main, types, bin, exports, files } = manifest;
  const named = [main, types, ...Object.values(bin), ...Object.values(exports['.']), ...files];
  expect(named.filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
});

test('the program of package.json answers', async () => {
  expect(await run([path.join(root, manifest.bin.xlformers), '--version'])).toBe(manifest.version);
});

test('its npm scripts name files that exist', () => {
  const missing = Object.values(manifest.scripts)
    .flatMap((script) => script.match(/\bscripts\/[\w./-]+/g) ?? [])
    .filter((name) => !existsSync(path.join(root, name)));
  expect(missing).toEqual([]);
});
