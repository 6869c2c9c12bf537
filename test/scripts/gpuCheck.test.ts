import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repository } from '../support/cli';

const check = (...args: string[]) =>
  spawnSync('bash', [path.join(repository, 'scripts', 'gpu', 'check'), ...args], { encoding: 'utf8' });

test('the check on a GPU says what it needs', () => {
  const without = check();
  expect([without.status, without.stderr]).toEqual([2, expect.stringContaining('scripts/gpu/check PACK')]);
  const empty = check(os.tmpdir());
  expect([empty.status, empty.stderr]).toEqual([
    2,
    expect.stringContaining('npm run gpu:pack makes it on a machine with Node'),
  ]);
});

describe('in a checkout whose archive is broken', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(path.join(os.tmpdir(), 'xlformers-check-'));
    mkdirSync(path.join(root, 'scripts', 'gpu'), { recursive: true });
    cpSync(path.join(repository, 'scripts', 'gpu', 'check'), path.join(root, 'scripts', 'gpu', 'check'));
    writeFileSync(path.join(root, 'xlformers-gpu.tar.xz'), 'not an archive');
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const run = (...args: string[]) => {
    const script = path.join(root, 'scripts', 'gpu', 'check');
    // A plugin stands for a GPU: none is looked for.
    const given = [script, root, '--plugin', script, ...args];
    const { status, stdout } = spawnSync('bash', given, {
      encoding: 'utf8',
      env: { ...process.env, OUT: path.join(root, 'out') },
    });
    return { status, lines: stdout.trim().split('\n') };
  };

  test('the step that fails says why, nothing goes on, and the end counts it', () => {
    const { status, lines } = run();
    expect(status).toBe(1);
    expect(lines.at(-1)).toBe('0 passed, 1 failed');
    expect(lines[0]).toMatch(
      /^FAILED {3}build: Node, jest and the compiled tests unpacked \(\d+ s, exit status \d+\)$/,
    );
    expect(lines.join('\n')).toMatch(/tar: .*not recoverable/);
    expect(readdirSync(path.join(root, 'out'))).toEqual(['logs.txt']);
    expect(readFileSync(path.join(root, 'out', 'logs.txt'), 'utf8')).toContain('not recoverable');
  });

  test('what does not begin in time has neither passed nor failed', () => {
    const { status, lines } = run('--minutes', '0');
    expect(status).toBe(0);
    // Four steps of the build and four tests.
    expect(lines.slice(-2)).toEqual(['8 not run: neither passed nor failed', '0 passed, 0 failed']);
    expect(lines[0]).toBe('not run  build: Node, jest and the compiled tests unpacked (not begun: the time was up)');
    expect(lines).toContain('not run  tests: operators (not begun: the time was up)');
    expect(existsSync(path.join(root, 'build-gpu', 'app', 'node'))).toBe(false);
  });
});

test('both sides of the benchmark on a GPU measure the same cases', () => {
  const numbers = (file: string, line: RegExp) =>
    [...readFileSync(path.join(repository, file), 'utf8').matchAll(line)].map(([, name, rest]) => [
      name,
      (rest as string).toLowerCase().replace(/\s/g, ''),
    ]);
  const own = numbers('native/test/gpu/attention_benchmark.cu', /\{"([\w-]+)", ((?:true|false)[^}]*)\}/g);
  const rivals = numbers('scripts/reference/gpu_worker.py', /^ {4}\("([\w-]+)", ((?:True|False)[^)]*)\)/gm);
  expect(own.length).toBeGreaterThan(5);
  expect(rivals).toEqual(own);
});
