/** How many threads the CPU backend takes: the CPUs that the process may run on, and of those what its control groups grant. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { addonPath } from './support/addonPath';
import { compileNative } from './support/compileNative';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-threads-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function threadsSeen(env: Record<string, string>, before: string[] = []): number {
  const program = `console.log(require(${JSON.stringify(path.resolve(addonPath))}).backends()[0].devices[0].detail)`;
  const [command = process.execPath, ...args] = [...before, process.execPath, '-e', program];
  const detail = execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env } });
  return Number(/(\d+) threads?/.exec(detail)?.[1]);
}

test('XLFORMERS_NUM_THREADS decides; what is no count is passed over', () => {
  expect(threadsSeen({ XLFORMERS_NUM_THREADS: '3' })).toBe(3);
  expect(threadsSeen({ XLFORMERS_NUM_THREADS: '100000' })).toBe(256);
  const usual = threadsSeen({ XLFORMERS_NUM_THREADS: '' });
  expect(usual).toBeGreaterThanOrEqual(1);
  expect(usual).toBeLessThanOrEqual(os.cpus().length);
  for (const wrong of ['0', '-2', 'many']) expect(threadsSeen({ XLFORMERS_NUM_THREADS: wrong })).toBe(usual);
});

test('a process bound to one CPU takes one thread', () => {
  if (process.platform !== 'linux') return; // affinity is Linux's
  const own = execFileSync('taskset', ['-cp', String(process.pid)], { encoding: 'utf8' });
  const first = /list: (\d+)/.exec(own)?.[1] as string;
  expect(threadsSeen({ XLFORMERS_NUM_THREADS: '' }, ['taskset', '-c', first])).toBe(1);
});

describe('quota of the control groups', () => {
  const program = compileNative(scratch, 'cpu_quota', ['native/test/cpu_quota.cc', 'native/cpu/cpu_quota.cc']);

  /** @param files content by path under the mount */
  function granted(membership: string, files: Record<string, string>): number {
    const mount = mkdtempSync(path.join(scratch, 'mount-'));
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(mount, name)), { recursive: true });
      writeFileSync(path.join(mount, name), content);
    }
    const list = path.join(mount, 'membership');
    writeFileSync(list, membership);
    return Number(execFileSync(program, [mount, list], { encoding: 'utf8' }));
  }

  test.each<[string, string, Record<string, string>, number]>([
    ['a container of its own', '0::/\n', { 'cpu.max': '200000 100000\n' }, 2],
    ['one and a half CPUs need two threads', '0::/\n', { 'cpu.max': '150000 100000\n' }, 2],
    ['a tenth of a CPU', '0::/\n', { 'cpu.max': '10000 100000\n' }, 1],
    ['no limit', '0::/\n', { 'cpu.max': 'max 100000\n' }, 0],
    ['no file', '0::/\n', {}, 0],
    ['a service of the host', '0::/system.slice/x.service\n', { 'system.slice/x.service/cpu.max': '300000 100000' }, 3],
    [
      'the smallest on the way up',
      '0::/a/b/c\n',
      { 'cpu.max': 'max 100000', 'a/cpu.max': '200000 100000', 'a/b/cpu.max': '400000 100000', 'a/b/c/cpu.max': 'max 100000' },
      2,
    ],
    ['a path that is not visible here', '0::/docker/abc\n', { 'cpu.max': '100000 100000' }, 1],
    ['a path out of the namespace', '0::/../../x\n', { 'cpu.max': '500000 100000' }, 5],
    [
      'version 1',
      '4:memory:/m\n3:cpu,cpuacct:/a/b\n',
      { 'cpu/a/cpu.cfs_quota_us': '250000', 'cpu/a/cpu.cfs_period_us': '100000', 'cpu/a/b/cpu.cfs_quota_us': '-1' },
      3,
    ],
    ['cpuacct alone limits nothing', '3:cpuacct:/\n', { 'cpu/cpu.cfs_quota_us': '100000', 'cpu/cpu.cfs_period_us': '100000' }, 0],
    [
      'both versions at once',
      '1:cpu:/\n0::/\n',
      { 'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000', 'cpu.max': '300000 100000' },
      3,
    ],
    ['nonsense', 'x\n\n0:cpu\n0::relative\n0::/\n', { 'cpu.max': 'many 0\n' }, 0],
    ['a period of zero', '0::/\n', { 'cpu.max': '5 0\n' }, 0],
    ['a huge quota', '0::/\n', { 'cpu.max': '9223372036854775807 1\n' }, 2 ** 20],
  ])('%s', (_, membership, files, expected) => expect(granted(membership, files)).toBe(expected));
});
