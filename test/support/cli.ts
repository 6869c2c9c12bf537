import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
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

export function runCli(args: readonly string[], env: Record<string, string> = {}, limits?: string): Promise<CliResult> {
  return startCli(args, env, limits).done;
}

/**
 * Environment of a program that sends itself a signal once a file has something in it: however slow or busy the machine is, the program is
 * never done before the signal comes, as it may be where another process watches it.
 * @param program file to write what it runs first
 * @param delay milliseconds, of its own event loop, to wait after that
 */
export function signalsItself(
  program: string,
  name: NodeJS.Signals,
  file: string,
  delay = 0,
): { NODE_OPTIONS: string } {
  writeFileSync(
    program,
    `const { statSync } = require('node:fs');
    const timer = setInterval(() => {
      if (!statSync(${JSON.stringify(file)}, { throwIfNoEntry: false })?.size) return;
      clearInterval(timer);
      setTimeout(() => process.kill(process.pid, '${name}'), ${delay});
    }, 1).unref();`,
  );
  return { NODE_OPTIONS: `--require ${program}` };
}

let lastRun: Promise<unknown> = Promise.resolve();

/** Runs the command line in this process, one after the other: much faster, for what needs no standard input and no signals. */
export function runMain(args: readonly string[]): Promise<Omit<CliResult, 'signal'>> {
  const run = lastRun.then(() => captured(args));
  lastRun = run.catch(() => undefined);
  return run;
}

async function captured(args: readonly string[]): Promise<Omit<CliResult, 'signal'>> {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    jest.spyOn(process[name], 'write').mockImplementation((chunk) => {
      written[name] += String(chunk);
      return true;
    }),
  );
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    await main([process.execPath, 'xlformers', ...args]);
    return { code: Number(process.exitCode ?? 0), ...written };
  } finally {
    process.exitCode = before;
    for (const spy of spies) spy.mockRestore();
  }
}
