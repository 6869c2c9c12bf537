import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { devices } from '../../lib';
import { enwik8Base, measureCases, type CaseResult, type MeasureOptions } from './cases';
import { speedPicture } from './picture';
import { findPython, Rival } from './rival';

interface Flags {
  json?: boolean;
  python?: string;
  rounds: string;
  only?: string;
  picture?: string;
}

const program = new Command('bench')
  .description('speed of this package beside PyTorch on the same weights, taking turns in one run; medians')
  .option('--json', 'one JSON object')
  .option('--python <path>', 'a Python with torch and transformers 4.57 (default: XLFORMERS_PYTHON, then python3)')
  .option('--rounds <n>', 'measurements of each side per case', '7')
  .option('--only <text>', 'cases whose name contains the text')
  .option('--picture <file>', 'also draws the ratios as an SVG')
  .parse();

async function main(): Promise<void> {
  const flags = program.opts<Flags>();
  const threads = cpuThreads();
  const found = findPython(flags.python);
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-bench-'));
  const rivals: Rival[] = [];
  try {
    const model = enwik8Base();
    await model.save(directory);
    if ('python' in found) {
      for (const pages of ['eager', 'kept-pages'] as const) {
        const rival = await Rival.start(found.python, threads, pages);
        await rival.run({ kind: 'load', directory });
        rivals.push(rival);
      }
    } else {
      process.stderr.write(`Measuring alone: ${found.reason}\n`);
    }
    const options: MeasureOptions = { model, rivals, rounds: Number(flags.rounds), only: flags.only };
    const results: CaseResult[] = [];
    for await (const result of measureCases(options)) {
      results.push(result);
      if (!flags.json) process.stdout.write(describe(result));
    }
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ machine: describeMachine(), threads, results }, null, 2)}\n`);
    }
    if (flags.picture) {
      writeFileSync(flags.picture, speedPicture(results, `${describeMachine()}, float32, medians of ${flags.rounds}`));
    }
    model.dispose();
  } finally {
    for (const rival of rivals) rival.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

function cpuThreads(): number {
  const detail = devices().find(({ backend }) => backend === 'cpu')?.devices[0]?.detail ?? '';
  return Number(/(\d+) threads?/.exec(detail)?.[1] ?? os.availableParallelism());
}

function describeMachine(): string {
  const cpu = devices().find(({ backend }) => backend === 'cpu')?.devices[0];
  return `${cpu?.product ?? 'unknown'}, ${cpu?.detail ?? ''}`;
}

function describe({ name, milliseconds, share, limit, rivals, peakBytes }: CaseResult): string {
  const lines = rivals.map(
    (rival) =>
      `    ${rival.name.padEnd(20)} ${rival.milliseconds.toFixed(1).padStart(9)} ms   ${(rival.milliseconds / milliseconds).toFixed(2)} x` +
      (rival.peakRiseBytes > 0 ? `   peak +${(rival.peakRiseBytes / 2 ** 20).toFixed(0)} MiB` : ''),
  );
  return [
    name,
    `    ${'xlformers'.padEnd(20)} ${milliseconds.toFixed(1).padStart(9)} ms   ${(100 * share).toFixed(0)} % of ${limit}` +
      `   peak +${(peakBytes / 2 ** 20).toFixed(1)} MiB`,
    ...lines,
    '',
  ].join('\n');
}

void main();
