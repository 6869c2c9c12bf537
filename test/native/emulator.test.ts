import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { repository } from '../support/cli';

const sources = path.join(repository, 'native', 'test');
const build = path.join(repository, 'build-emulator');
const plugin = path.join(build, 'xlformers_cuda.so');
/** The emulator itself, the kernels that run in it, and products by a stand-in for cuBLASLt. */
const programs = ['simt', 'cuda', 'cublaslt'];
const testFiles = (program: string) => readdirSync(path.join(sources, program)).filter((name) => name.endsWith('_test.cc'));

/** The names in a test file: TEST(name), RANDOM_TEST(name), and the mutants, which have one per line. */
function testNames(program: string, file: string): string[] {
  const text = readFileSync(path.join(sources, program, file), 'utf8');
  return [...text.matchAll(/^(TEST|RANDOM_TEST|CHECKED|UNCHECKED)\((\w+)[,)]/gm)].map(([, macro, name]) =>
    macro?.endsWith('TEST') ? (name as string) : `${(macro as string).toLowerCase()}_${name}`,
  );
}

/** What a program said of each test: 'ok', or why not. */
function run(program: string): Map<string, string> {
  const { stdout, stderr, status } = spawnSync(path.join(build, `${program}_test`), { encoding: 'utf8' });
  const outcomes = new Map<string, string>();
  for (const [, outcome, name, why] of stdout.matchAll(/^(ok|not ok) (\w+)(?: \([\d.]+ s\)|: (.*))$/gm)) {
    outcomes.set(name as string, outcome === 'ok' ? 'ok' : `not ok: ${why}`);
  }
  if (status === null || status > 1) throw new Error(`${program}_test ended too early:\n${stdout}${stderr}`);
  return outcomes;
}

beforeAll(() => {
  execFileSync('cmake', ['-S', sources, '-B', build], { stdio: 'pipe' });
  execFileSync('cmake', ['--build', build, '--parallel', '2'], { stdio: 'pipe' });
}, 600_000);

describe.each(programs)('%s', (program) => {
  let outcomes: Map<string, string>;
  beforeAll(() => {
    outcomes = run(program);
  });

  describe.each(testFiles(program))('%s', (file) => {
    test.each(testNames(program, file))('%s', (name) => expect(outcomes.get(name)).toBe('ok'));
  });

  test('every test that ran is one of these', () => {
    const listed = testFiles(program).flatMap((file) => testNames(program, file));
    expect([...outcomes.keys()].sort()).toEqual(listed.sort());
  });
});

/** Tests of operators and models once more, in a process of their own, whose environment says where the CUDA plugin is. */
describe('tests on the CUDA kernels', () => {
  const jest = path.join(repository, 'node_modules', 'jest', 'bin', 'jest.js');
  /** How many tests of a file passed, of those whose names match; fails with what Jest says where one does not. */
  function passed(file: string, names = ''): number {
    const args = [jest, '--config', 'test/cuda/jest.config.js', '--runInBand', '--json', '-t', names, file];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: repository, encoding: 'utf8' });
    expect([status, status === 0 ? '' : stderr]).toEqual([0, '']);
    return (JSON.parse(stdout) as { numPassedTests: number }).numPassedTests;
  }

  const operators = [
    'arguments',
    'cast',
    'embedding',
    'float32',
    'linear',
    'losses',
    'normalization',
    'optimizer',
    'permutationAttention',
    'record',
    'recordMemory',
    'relativeAttention',
    'ring',
  ];
  test.each(operators)('operators: %s', (name) => expect(passed(`test/ops/${name}.test.ts`)).toBeGreaterThan(0), 600_000);

  // What CUDA alone has: operators, models and training in 16 bits; several devices.
  const devices = readdirSync(path.join(repository, 'test', 'cuda')).filter((name) => name.endsWith('.ts'));
  test.each(devices)('%s', (name) => expect(passed(`test/cuda/${name}`)).toBeGreaterThan(0), 600_000);

  // A training of each model against PyTorch's; decoding by rings and recordings.
  const runs = [
    { name: 'models/training', least: 2 },
    { name: 'inference/ringDecoding', least: 2 },
    { name: 'inference/ringMemory', least: 1 },
  ];
  test.each(runs)(
    '$name',
    ({ name, least }) => expect(passed(`test/${name}.test.ts`)).toBeGreaterThanOrEqual(least),
    600_000,
  );

  // The folders that have most in them: memory, both attentions' bands and masks, adaptive softmax, both streams, losses, gradients.
  const fixtures: [string, string[]][] = [
    ['fixtures', ['txl-lm-div4', 'txl-pre-lnorm-tied-r', 'txl-same-length-clamp']],
    ['xlnetFixtures', ['xlnet-bi-data', 'xlnet-lm-two-stream', 'xlnet-memory']],
  ];
  test.each(fixtures)(
    'models: %s',
    (name, folders) => {
      const number = passed(`test/models/${name}.test.ts`, `^(${folders.join('|')}) `);
      // In float32, float64, bfloat16 and float16.
      expect(number).toBe(4 * folders.length);
    },
    600_000,
  );

  // What scripts/gpu/bench measures, on tiny shapes: passes, decoding and training of both models in two types of numbers.
  test('the benchmark of whole models runs', () => {
    const program = path.join(repository, 'scripts', 'bench', 'gpuModels.ts');
    const args = ['-r', 'ts-node/register/transpile-only', program, '--dry'];
    const env = { ...process.env, XLFORMERS_CUDA_PLUGIN: plugin, XLFORMERS_CUBLASLT: '' };
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: repository, env, encoding: 'utf8' });
    const rows = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { milliseconds?: number; error?: string });
    expect([stderr, rows.flatMap(({ error }) => error ?? [])]).toEqual(['', []]);
    expect(rows.length).toBe(16);
  }, 600_000);
});
