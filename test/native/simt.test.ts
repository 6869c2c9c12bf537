import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { repository } from '../support/cli';

const folder = path.join(repository, 'native', 'test', 'simt');
const build = path.join(repository, 'build-emulator');
const testFiles = readdirSync(folder).filter((name) => name.endsWith('_test.cc'));

/** The names in a test file: TEST(name), and the mutants, which have one per line. */
function testNames(file: string): string[] {
  const text = readFileSync(path.join(folder, file), 'utf8');
  return [...text.matchAll(/^(TEST|CHECKED|UNCHECKED)\((\w+)[,)]/gm)].map(([, macro, name]) =>
    macro === 'TEST' ? (name as string) : `${(macro as string).toLowerCase()}_${name}`,
  );
}

/** What the runner said of each test: 'ok', or why not. */
const outcomes = new Map<string, string>();

beforeAll(() => {
  execFileSync('cmake', ['-S', path.join(repository, 'native', 'test'), '-B', build], { stdio: 'pipe' });
  execFileSync('cmake', ['--build', build, '--parallel', '2'], { stdio: 'pipe' });
  const { stdout, status, signal } = spawnSync(path.join(build, 'simt_test'), { encoding: 'utf8' });
  for (const [, outcome, name, why] of stdout.matchAll(/^(ok|not ok) (\w+)(?: \([\d.]+ s\)|: (.*))$/gm)) {
    outcomes.set(name as string, outcome === 'ok' ? 'ok' : `not ok: ${why}`);
  }
  if (signal !== null) throw new Error(`simt_test was killed by ${signal} after:\n${stdout}`);
  expect(status).toBe([...outcomes.values()].every((outcome) => outcome === 'ok') ? 0 : 1);
}, 600_000);

describe.each(testFiles)('%s', (file) => {
  test.each(testNames(file))('%s', (name) => expect(outcomes.get(name)).toBe('ok'));
});

test('every test that ran is one of these', () => {
  expect([...outcomes.keys()].sort()).toEqual(testFiles.flatMap(testNames).sort());
});
