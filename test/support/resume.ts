/** A run that is killed, at any moment, and resumed gives the losses and weights of one that was not, bit for bit. */
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { FaultPoint } from '../../lib/checkpoints/trainingCheckpoint';
import { runCli, runMain, signalsItself, startCli } from './cli';
import { TestRandom } from './random';

/** A training run to kill. */
export interface ResumeJob {
  /** Writes the data. @returns arguments of `train` but for --out */
  prepare(scratch: string): string[];
  steps: number;
  /** Moments of a save at which the run is killed. Saving is the same code for every task: one of them tries all. */
  points: readonly FaultPoint[];
}

export interface ResumeRuns {
  scratch: string;
  args(out: string, more?: string[]): string[];
  /** The run that nothing disturbed. */
  reference(): Outcome;
  /** Resumes a run and compares it with the reference. */
  finish(out: string): Promise<void>;
  /**
   * Resumes the finished reference with other arguments, which must be refused.
   * @param replaced arguments by what stands in their place
   * @returns the message
   */
  refused(more: string[], replaced?: Record<string, string>): Promise<string>;
}

export interface Outcome {
  log: object[];
  weights: string;
}

/** Steps, losses and gradient norms as logged, and the hash of the final weights. */
export function outcome(out: string): Outcome {
  const log = logged(path.join(out, 'log.jsonl'));
  const weights = createHash('sha256')
    .update(readFileSync(path.join(out, 'model', 'model.safetensors')))
    .digest('hex');
  return { log, weights };
}

function logged(file: string): object[] {
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return lines.map((line) => ({ ...(JSON.parse(line) as Record<string, unknown>), tokensPerSecond: undefined }));
}

/** A copy of a tokenizer's folder with another vocabulary. */
export function changedTokenizer(
  folder: string,
  copy: string,
  change: (vocabulary: [string, number][]) => void,
): string {
  cpSync(folder, copy, { recursive: true });
  const file = path.join(copy, 'tokenizer.json');
  const json = JSON.parse(readFileSync(file, 'utf8')) as { model: { vocab: [string, number][] } };
  change(json.model.vocab);
  writeFileSync(file, JSON.stringify(json));
  return copy;
}

/** Declares the tests that every task passes. */
export function testResume({ prepare, steps, points }: ResumeJob): ResumeRuns {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-resume-'));
  let flags: string[];
  let reference: Outcome;
  /** How long the run that nothing disturbed took, in milliseconds. */
  let duration: number;
  const args = (out: string, more: string[] = []) => ['train', ...flags, '--out', out, ...more];

  beforeAll(async () => {
    flags = prepare(scratch);
    const out = path.join(scratch, 'reference');
    const started = performance.now();
    const { code, stderr } = await runCli(args(out));
    duration = performance.now() - started;
    expect([code, stderr.includes('Error'), code === 0 ? '' : stderr]).toEqual([0, false, '']);
    reference = outcome(out);
    expect(reference.log.filter((entry) => (entry as { event: string }).event === 'step')).toHaveLength(steps);
  });

  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  async function finish(out: string): Promise<void> {
    const { code, stderr } = await runCli(args(out, ['--resume']));
    expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
    expect(outcome(out)).toEqual(reference);
    expect(readdirSync(out).filter((name) => name.startsWith('.tmp'))).toEqual([]);
  }

  test.each(points)('killed while saving, at %s', async (point) => {
    const out = path.join(scratch, point);
    const { signal } = await runCli(args(out), { XLFORMERS_FAULT: `${point}:3` });
    expect(signal).toBe('SIGKILL');
    await finish(out);
  });

  test('killed at random moments, again and again', async () => {
    const random = new TestRandom(11);
    const out = path.join(scratch, 'random');
    for (let kill = 0; kill < 5; kill += 1) {
      const { child, done } = startCli(args(out, ['--resume']));
      // From the start of the program to about its end, on a machine of any speed.
      const timer = setTimeout(() => child.kill('SIGKILL'), (random.integer(20, 100) / 100) * duration);
      await done;
      clearTimeout(timer);
    }
    await finish(out);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s saves without an evaluation and exits with 75', async (name) => {
    const out = path.join(scratch, name);
    // The first log line: the run is in its steps.
    const log = path.join(out, 'log.jsonl');
    const env = signalsItself(path.join(scratch, `${name}.js`), name, log);
    const { code, stdout } = await runCli(args(out), env);
    expect([code, stdout]).toEqual([75, expect.stringContaining('--resume')]);
    expect(logged(log).length).toBeLessThan(reference.log.length);
    await finish(out);
  });

  async function refused(more: string[], replaced: Record<string, string> = {}): Promise<string> {
    const given = args(path.join(scratch, 'reference'), ['--resume', ...more]);
    const { code, stderr } = await runMain(given.map((argument) => replaced[argument] ?? argument));
    expect([code, stderr]).toEqual([1, expect.stringContaining('ERR_CHECKPOINT_MISMATCH')]);
    return stderr;
  }

  return { scratch, args, reference: () => reference, finish, refused };
}
