import { execFile } from 'node:child_process';
import path from 'node:path';
import { addonPath } from './support/addonPath';

function run(program: string, ...values: string[]): Promise<{ code: number | string | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [path.join(__dirname, 'programs', program), path.resolve(addonPath), ...values],
      { timeout: 500_000 },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? child.signalCode, output: stdout + stderr }),
    );
  });
}

/** Four workers and the main thread at once, each with work queued when it leaves. */
test.each([
  ['finish', 0],
  ['exit', 0],
  ['throw', 0],
  ['terminate', 0],
  ['main-exit', 7],
])('threads that leave by %s', async (mode, code) => {
  expect(await run('environments.cjs', mode)).toEqual({ code, output: '' });
});

/** One thread that leaves in the middle of something. Whatever happens, it is no crash. */
test.each([
  ['exit in a callback', 3, /^$/],
  ['exit in a getter', 3, /^$/],
  ['exit in an exit handler', 3, /^$/],
  ['throw in a callback', 1, /Error: planned/],
  ['throw in a getter', 3, /^$/],
  ['unhandled rejection', 1, /ERR_TOKEN_ID/],
  ['leaked buffers', 3, /^$/],
  ['a signal', 'SIGTERM', /^$/],
])('%s', async (mode, code, output) => {
  expect(await run('endings.cjs', mode)).toEqual({ code, output: expect.stringMatching(output) });
});

test('loaded several times, and into a context of its own', async () => {
  expect(await run('reload.cjs')).toEqual({
    code: 0,
    output: [
      'the same functions: false',
      'load 0 with the buffers of each: 1 ERR_ARG_HANDLE ERR_ARG_HANDLE',
      'load 1 with the buffers of each: ERR_ARG_HANDLE 2 ERR_ARG_HANDLE',
      'load 2 with the buffers of each: ERR_ARG_HANDLE ERR_ARG_HANDLE 3',
      'in a context: ERR_ARG_HANDLE 8',
      'live bytes: 0 0 0',
      '',
    ].join('\n'),
  });
});

// The pool's threads would run on in code that is no longer there.
test('the addon stays when the only thread that loaded it has ended', async () => {
  expect(await run('unload.cjs')).toEqual({ code: 0, output: 'worker 0 in memory: true\n' });
});

/** Runs in an address space of so many kilobytes. */
function limited(kilobytes: string, ...values: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const program = path.join(__dirname, 'programs', 'outOfMemory.ts');
  const args = [process.execPath, '-r', 'ts-node/register/transpile-only', program, ...values];
  return new Promise((resolve) => {
    // Each arena of malloc reserves 64 MiB and more, and how many there are depends on which threads meet in it.
    const env = { ...process.env, MALLOC_ARENA_MAX: '1' };
    const child = execFile('bash', ['-c', `ulimit -v ${kilobytes} && exec "$@"`, 'bash', ...args], { env }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

test('memory that runs out is an error that names the bytes, and the process goes on', async () => {
  if (process.platform !== 'linux') return; // where the limit is kept
  const usual = Number((await limited('unlimited')).stdout);
  expect(usual).toBeGreaterThan(0);
  const bytes = 1536 * 2 ** 20;
  // Room for what the collector takes, but not for the tensor.
  const { code, stdout, stderr } = await limited(String(usual + 1280 * 1024), String(bytes));
  expect([code, stderr]).toEqual([0, '']);
  const half = Math.floor(bytes / 4 / 1.5) * 4;
  expect(stdout.trimEnd().split('\n')).toEqual([
    expect.stringMatching(`^zeros: XlformersError ERR_OUT_OF_MEMORY .*\\b${bytes} bytes`),
    expect.stringMatching(`^add: XlformersError ERR_OUT_OF_MEMORY .*\\b${half} bytes`),
    expect.stringMatching(`^data: XlformersError ERR_OUT_OF_MEMORY .*\\b${half} bytes`),
    'small: done',
    'live bytes: 0',
  ]);
});
