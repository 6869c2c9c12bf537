import type { Device } from '../../lib';
import { multiplyAddPeak } from './peak';
import type { Rival, RivalCase } from './rival';

export interface RivalResult {
  name: string;
  /** Median. */
  milliseconds: number;
  peakRiseBytes: number;
}

export interface CaseResult {
  name: string;
  /** Median. */
  milliseconds: number;
  /** Of the physical limit: needed floating-point operations at the machine's measured rate. */
  share: number;
  limit: string;
  /** Memory beyond weights and inputs at the highest point. */
  peakBytes: number;
  rivals: RivalResult[];
}

export interface MeasureOptions {
  device: Device;
  rivals: readonly Rival[];
  /** Measurements of each side. */
  rounds: number;
}

/** One thing that both sides can do. */
export interface Case {
  request: RivalCase;
  /** Floating-point operations that nobody can avoid. */
  flops: number;
  run(): Promise<void>;
  dispose(): void;
}

/** A case by name, made when its turn comes. */
export type CaseMaker = readonly [name: string, make: () => Case];

/** Measures the cases one after the other, all sides taking turns within each. */
export async function* measureCases(
  makers: readonly CaseMaker[],
  { device, rivals: all, rounds }: MeasureOptions,
): AsyncIterable<CaseResult> {
  for (const [name, make] of makers) {
    const current = make();
    const rivals = all.filter((rival) => rival.takesPart(current.request));
    try {
      // Two rounds to fill caches, memories and page tables on every side.
      for (let warmup = 0; warmup < 2; warmup += 1) {
        await current.run();
        for (const rival of rivals) await rival.run(current.request);
      }
      const base = device.memory().liveBytes;
      device.resetPeak();
      const own: number[] = [];
      const others = rivals.map(() => [] as number[]);
      const rises = rivals.map(() => 0);
      let peak = 0;
      for (let round = 0; round < rounds; round += 1) {
        const started = performance.now();
        await current.run();
        own.push(performance.now() - started);
        peak = Math.max(peak, device.memory().peakBytes - base);
        for (const [index, rival] of rivals.entries()) {
          const { milliseconds, peakRiseBytes } = await rival.run(current.request);
          (others[index] as number[]).push(milliseconds);
          rises[index] = Math.max(rises[index] as number, peakRiseBytes);
        }
      }
      const rate = await multiplyAddPeak(device);
      const milliseconds = median(own);
      yield {
        name,
        milliseconds,
        share: current.flops / rate / (milliseconds / 1000),
        limit: `the limit (${(current.flops / 1e9).toFixed(1)} GFLOP at ${(rate / 1e9).toFixed(0)} GFLOP/s)`,
        peakBytes: peak,
        rivals: rivals.map((rival, index) => ({
          name: rival.name,
          milliseconds: median(others[index] as number[]),
          peakRiseBytes: rises[index] as number,
        })),
      };
    } finally {
      current.dispose();
    }
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** The same ids for each run, from a linear congruential sequence; small ones more often, as words in a text: the logarithm is uniform. */
export function randomIds(count: number, vocabulary: number, seed: number): Int32Array<ArrayBuffer> {
  let value = seed;
  return Int32Array.from({ length: count }, () => {
    value = (value * 1103515245 + 12345) % 2147483648;
    return Math.floor((vocabulary + 1) ** (value / 2147483648)) - 1;
  });
}
