import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

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

export function runCli(args: readonly string[], env: Record<string, string> = {}, limits?: string): Promise<CliResult> {
  return startCli(args, env, limits).done;
}
