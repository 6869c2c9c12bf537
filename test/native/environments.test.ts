import { execFile } from 'node:child_process';
import path from 'node:path';
import { addonPath } from './support/addonPath';

function run(program: string, ...values: string[]): Promise<{ code: number | string | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [path.join(__dirname, 'programs', program), addonPath, ...values],
      { timeout: 60_000 },
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
