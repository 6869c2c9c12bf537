import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XlformersError } from '../../lib';
import { TestRandom } from '../../test/support/random';
import type { Format } from './format';

export interface FuzzOptions {
  seed: number;
  /** The first case and how many. */
  first: number;
  cases: number;
  /** Called after each case. */
  onCase?: (outcome: FuzzCase) => void;
}

export interface FuzzCase {
  index: number;
  file: Buffer;
  /** An error's code, or 'accepted'. */
  outcome: string;
}

export interface FuzzReport {
  /** Cases by outcome. */
  outcomes: Map<string, number>;
  slowestMilliseconds: number;
}

/** Far above what any case takes on a busy machine, far below what an attack wants. */
const maxMilliseconds = 5000;
const maxResidentBytes = 1.5 * 2 ** 30;

/**
 * Runs cases of a format: each must be accepted with a result inside its bounds or refused with an error of ours, in time and memory.
 * A case depends on the seed and its index only.
 * @throws Error naming the seed and case that failed
 */
export async function fuzz(format: Format, { seed, first, cases, onCase }: FuzzOptions): Promise<FuzzReport> {
  const corpus = await format.corpus();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-fuzz-'));
  const report: FuzzReport = { outcomes: new Map(), slowestMilliseconds: 0 };
  try {
    for (let index = first; index < first + cases; index += 1) {
      const random = new TestRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
      const file = format.mutate(random, random.pick(corpus));
      // Of the processor: others may keep it from this process.
      const started = process.cpuUsage();
      const outcome = await outcomeOf(format, file, folder, `seed ${seed}, case ${index}`);
      const { user, system } = process.cpuUsage(started);
      const milliseconds = (user + system) / 1000;
      if (milliseconds > maxMilliseconds) throw new Error(`seed ${seed}, case ${index}: took ${milliseconds} ms`);
      const resident = process.memoryUsage.rss();
      if (resident > maxResidentBytes) throw new Error(`seed ${seed}, case ${index}: ${resident} bytes in memory`);
      report.outcomes.set(outcome, (report.outcomes.get(outcome) ?? 0) + 1);
      report.slowestMilliseconds = Math.max(report.slowestMilliseconds, milliseconds);
      onCase?.({ index, file, outcome });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return report;
}

async function outcomeOf(format: Format, file: Buffer, folder: string, which: string): Promise<string> {
  try {
    await format.check(file, folder);
    return 'accepted';
  } catch (error) {
    if (error instanceof XlformersError && error.code !== 'ERR_INTERNAL') return error.code;
    throw new Error(`${which}: ${(error as Error).message}`, { cause: error });
  }
}
