/**
 * How fast a checkpoint of XLNet base is loaded from the page cache, and how much memory that takes: each measurement in a process of
 * its own that runs the compiled library, beside one that loads nothing. On Linux: `npm run build:ts`, then
 * `npx ts-node scripts/bench/load.ts [--json] [--rounds n]`
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { convertCheckpoint } from '../../lib/checkpoints/convert';
import { median } from './measure';
import { xlnetBase } from './xlnetCases';

interface Measurement {
  seconds: number;
  /** The most that the process had in memory. */
  peakBytes: number;
}

interface LoadResult {
  format: string;
  weightBytes: number;
  /** Median. */
  seconds: number;
  /** Largest memory beyond that of a process that loads nothing, by the weights' size. */
  peakRatio: number;
}

/** What a measured process does: start the device, and load the folder if there is one. Plain: a compiler would blur its memory. */
const program = `
  const [library, folder] = process.argv.slice(1);
  const { readFileSync } = require('node:fs');
  const { Tensor, XLNetLMHeadModel } = require(library);
  (async () => {
    Tensor.zeros([1], { device: 'cpu' }).dispose();
    const started = performance.now();
    const model = folder && (await XLNetLMHeadModel.fromPretrained(folder, { device: 'cpu' }));
    if (model) await model.device.synchronize();
    const seconds = (performance.now() - started) / 1000;
    // Not resourceUsage().maxRSS: that one is inherited from the process that starts this one.
    const kilobytes = /VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1];
    process.stdout.write(JSON.stringify({ seconds, peakBytes: 1024 * kilobytes }));
  })();
`;

function measure(folder: string): Measurement {
  const library = path.join(__dirname, '..', '..', 'dist', 'lib');
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', program, library, folder], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Measurement;
}

async function main(rounds: number, json: boolean): Promise<void> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-load-'));
  try {
    const folders = { safetensors: path.join(scratch, 'safetensors'), bin: path.join(scratch, 'bin') };
    const model = xlnetBase();
    await model.save(folders.safetensors);
    model.dispose();
    await convertCheckpoint(folders.safetensors, folders.bin, { format: 'bin' });
    const weightBytes = statSync(path.join(folders.safetensors, 'model.safetensors')).size;
    const results: LoadResult[] = [];
    for (const [format, folder] of Object.entries(folders)) {
      // Once to fill the page cache.
      measure(folder);
      const loads = Array.from({ length: rounds }, () => measure(folder));
      const base = median(Array.from({ length: 3 }, () => measure('').peakBytes));
      const rise = Math.max(...loads.map(({ peakBytes }) => peakBytes)) - base;
      results.push({
        format,
        weightBytes,
        seconds: median(loads.map(({ seconds }) => seconds)),
        peakRatio: rise / weightBytes,
      });
    }
    process.stdout.write(json ? `${JSON.stringify(results, null, 2)}\n` : results.map(describe).join(''));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function describe({ format, weightBytes, seconds, peakRatio }: LoadResult): string {
  const size = `${(weightBytes / 1e6).toFixed(0)} MB`;
  return `${format.padEnd(12)} ${size} in ${seconds.toFixed(2)} s, peak memory ${peakRatio.toFixed(2)} x the weights\n`;
}

const flags = new Command('load')
  .description('seconds and peak memory of loading XLNet base from the page cache')
  .option('--json', 'one JSON array')
  .option('--rounds <n>', 'measurements of each format', '5')
  .parse()
  .opts<{ json?: boolean; rounds: string }>();
void main(Number(flags.rounds), flags.json ?? false);
