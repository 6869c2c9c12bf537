import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { main } from '../../lib/cli/main';

export const repository = path.join(__dirname, '..', '..');

export interface CliResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Starts the command line from its sources. `limits`: shell commands that come first (`ulimit`). */
export function startCli(
  args: readonly string[],
  env: Record<string, string> = {},
  limits = ':',
): { child: ChildProcess; done: Promise<CliResult> } {
  const program = ['-r', 'ts-node/register/transpile-only', path.join(repository, 'lib/cli/main.ts'), ...args];
  const child = spawn('bash', ['-c', `${limits}; exec "$@"`, 'bash', process.execPath, ...program], {
    cwd: repository,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const done = new Promise<CliResult>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, done };
}

/** Runs the command line in this process: quicker, for what fails before it computes. */
export async function runHere(args: readonly string[]): Promise<Pick<CliResult, 'code' | 'stdout' | 'stderr'>> {
  const said = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    jest.spyOn(process[name], 'write').mockImplementation((chunk) => {
      said[name] += String(chunk);
      return true;
    }),
  );
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await main(['node', 'xlformers', ...args]);
    return { code: Number(process.exitCode), ...said };
  } finally {
    process.exitCode = before;
    for (const spy of spies) spy.mockRestore();
  }
}

export function runCli(args: readonly string[], env: Record<string, string> = {}, limits?: string): Promise<CliResult> {
  return startCli(args, env, limits).done;
}
