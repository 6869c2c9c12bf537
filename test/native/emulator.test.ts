import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { repository } from '../support/cli';

const sources = path.join(repository, 'native', 'test');
const build = path.join(repository, 'build-emulator');
/** The emulator itself, and the kernels that run in it. */
const programs = ['simt', 'cuda'];
const testFiles = (program: string) => readdirSync(path.join(sources, program)).filter((name) => name.endsWith('_test.cc'));

/** The names in a test file: TEST(name), and the mutants, which have one per line. */
function testNames(program: string, file: string): string[] {
  const text = readFileSync(path.join(sources, program, file), 'utf8');
  return [...text.matchAll(/^(TEST|CHECKED|UNCHECKED)\((\w+)[,)]/gm)].map(([, macro, name]) =>
    macro === 'TEST' ? (name as string) : `${(macro as string).toLowerCase()}_${name}`,
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

/** Tests of operators once more, and those of what CUDA alone has, in a process of their own, whose environment says where the plugin is. */
describe('operators on the CUDA kernels', () => {
  const jest = path.join(repository, 'node_modules', 'jest', 'bin', 'jest.js');
  // XLNet's attention has kernels that are not proven yet.
  const operators = ['embedding', 'linear', 'losses', 'normalization', 'optimizer', 'relativeAttention'];
  const files = [...operators, 'ring', 'record', 'recordMemory'].map((name) => `test/ops/${name}.test.ts`);

  test.each([...files, 'test/cuda/devices.test.ts'])(
    '%s',
    (file) => {
      const args = [jest, '--config', 'test/cuda/jest.config.js', '--runInBand', file];
      const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: repository, encoding: 'utf8' });
      expect([status, status === 0 ? '' : stdout + stderr]).toEqual([0, '']);
    },
    600_000,
  );
});
