import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
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
