import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { repository } from '../support/cli';

const read = (...parts: string[]) => readFileSync(path.join(repository, ...parts), 'utf8');
const filesIn = (folder: string) =>
  readdirSync(path.join(repository, folder), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => `${folder}/${name}`);
const addonFiles = ['native/core', 'native/cpu', 'native/addon'].flatMap(filesIn);
const emulatorFiles = filesIn('native/test/simt');
const nativeFiles = [...addonFiles, ...filesIn('native/cuda'), ...emulatorFiles];

test('both builds read the one list, and it has every source once', () => {
  const { host, kernels } = JSON.parse(read('native', 'sources.json')) as { host: string[]; kernels: string[] };
  const listed = [...host, ...kernels].sort();
  expect(listed).toEqual(addonFiles.filter((name) => name.endsWith('.cc')).sort());
  expect(read('CMakeLists.txt')).toContain('native/sources.json');
  expect(read('binding.gyp')).toContain('./native/sources.json');
});

test('native floors include only what lies below them', () => {
  const allowed: Record<string, RegExp> = {
    core: /^core\//,
    cpu: /^(core|cpu)\//,
    // The addon links the embedded backend and knows nothing else of it.
    addon: /^(core|addon)\/|^cpu\/cpu_backend\.h$/,
    cuda: /^(core|cuda)\//,
    // The emulator stands in for CUDA and knows nothing of what is built on it; its tests do.
    test: /^simt\//,
  };
  for (const file of nativeFiles) {
    if (/_test\.cc$|testing\.h$|mutants\.cuh$|\.(txt|md)$/.test(file)) continue;
    const folder = file.split('/')[1] as string;
    for (const [, included] of read(file).matchAll(/#include "([^"]+)"/g)) {
      expect([file, included]).toEqual([file, expect.stringMatching(allowed[folder] as RegExp)]);
    }
    const forbidden = folder === 'addon' ? /immintrin|cuda_runtime/ : /<(napi|node_api)\.h>/;
    expect([file, forbidden.test(read(file))]).toEqual([file, false]);
  }
});

/** What the host's compiler sees in place of CUDA enters in one place, so that nvcc and the emulator compile the same kernels. */
test('one header tells the two worlds of CUDA sources apart', () => {
  const cuda = filesIn('native/cuda');
  const divided = cuda.filter((name) => /__CUDACC__|<simt\/|<cuda_|\basm\b|\bsimt::/.test(read(name)));
  expect(divided).toEqual(['native/cuda/device.cuh', 'native/cuda/runtime.cu']);
  for (const name of cuda) expect([name, /__shared__/.test(read(name))]).toEqual([name, name.endsWith('device.cuh')]);
});

test.each(['simt', 'cuda'])('native/test/%s builds every source that it has', (folder) => {
  const listed =
    read('native', 'test', folder, 'CMakeLists.txt')
      .replace(/#.*/g, '')
      .match(/\b\w+\.cc\b/g) ?? [];
  const sources = filesIn(`native/test/${folder}`).filter((name) => name.endsWith('.cc'));
  expect([...listed].sort()).toEqual(sources.map((name) => path.basename(name)).sort());
});

test('one file of lib/ loads the addon, one reads the environment', () => {
  const files = readdirSync(path.join(repository, 'lib'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  expect(files.filter((name) => /process\.env\b/.test(read('lib', name).replace(/\/\*[\s\S]*?\*\//g, '')))).toEqual([
    'env.ts',
  ]);
  expect(
    files.filter((name) => /createRequire|require\(/.test(read('lib', name))).filter((name) => name !== 'cli/main.ts'),
  ).toEqual(['native.ts']);
});

test('one native file reads the environment, and every variable is documented', () => {
  const readers = nativeFiles.filter((name) => /\bgetenv\b/.test(read(name)));
  expect(readers).toEqual(['native/core/environment_variables.h']);
  const documented = read('lib', 'env.ts');
  const named = [...documented.matchAll(/variable\('(\w+)'\)/g)].map(([, name]) => name as string);
  const native = [
    ...read('native', 'core', 'environment_variables.h').matchAll(/"((?:XLFORMERS|CUDA)_[A-Z_]+[A-Z])"/g),
  ];
  for (const name of [...named, ...native.map(([, name]) => name), 'XLFORMERS_CUDA_PLUGIN']) {
    expect(documented).toMatch(new RegExp(`^ \\* \\|.*\\b${name}\\b.*\\|.*\\|.*\\|$`, 'm'));
  }
});

test('the package says what it ships', () => {
  const { main, types, bin, exports } = JSON.parse(read('package.json')) as Record<string, object> & {
    exports: object;
  };
  expect([main, types]).toEqual(['dist/lib/index.js', 'dist/lib/index.d.ts']);
  expect(bin).toEqual({ xlformers: 'bin/xlformers.js' });
  expect(Object.keys(exports)).toEqual(['.', './package.json']);
  expect(read('dist', 'lib', 'index.d.ts')).toContain('TransformerXLLMHeadModel');
});
