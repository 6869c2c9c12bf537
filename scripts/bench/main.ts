import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { devices, type PretrainedModel } from '../../lib';
import { type CaseMaker, type CaseResult, measureCases } from './measure';
import { speedPicture } from './picture';
import { findPython, Rival, type RivalMode } from './rival';
import { enwik8Base, transformerXLCases } from './transformerXLCases';
import { xlnetBase, xlnetCases } from './xlnetCases';

interface Flags {
  json?: boolean;
  python?: string;
  rounds: string;
  only?: string;
  picture?: string;
  compiled?: boolean;
}

const program = new Command('bench')
  .description('speed of this package beside PyTorch on the same weights, taking turns in one run; medians')
  .option('--json', 'one JSON object')
  .option('--python <path>', 'a Python with torch and transformers 4.57 (default: XLFORMERS_PYTHON, then python3)')
  .option('--rounds <n>', 'measurements of each side per case', '7')
  .option('--only <text>', 'cases whose name contains the text')
  .option(
    '--compiled',
    "also torch.compile and ONNX Runtime for XLNet's forward passes, a minute of preparation for each",
  )
  .option('--picture <file>', 'also draws the ratios as an SVG')
  .parse();

/** The model families, each with a model whose weights all sides load. */
const suites: { make: () => PretrainedModel; cases: (model: never) => CaseMaker[] }[] = [
  { make: enwik8Base, cases: transformerXLCases },
  { make: xlnetBase, cases: xlnetCases },
];

async function main(): Promise<void> {
  const flags = program.opts<Flags>();
  const threads = cpuThreads();
  const found = findPython(flags.python);
  if (!('python' in found)) process.stderr.write(`Measuring alone: ${found.reason}\n`);
  const modes: RivalMode[] = flags.compiled
    ? ['eager', 'kept-pages', 'compiled', 'onnxruntime']
    : ['eager', 'kept-pages'];
  const results: CaseResult[] = [];
  for (const { make, cases } of suites) {
    const model = make();
    const makers = cases(model as never).filter(([name]) => name.includes(flags.only ?? ''));
    const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-bench-'));
    const rivals: Rival[] = [];
    try {
      if ('python' in found && makers.length > 0) {
        await model.save(directory);
        for (const mode of modes) {
          const rival = await Rival.start(found.python, threads, mode);
          rivals.push(rival);
          await rival.run({ kind: 'load', directory });
        }
      }
      const options = { device: model.device, rivals, rounds: Number(flags.rounds) };
      for await (const result of measureCases(makers, options)) {
        results.push(result);
        if (!flags.json) process.stdout.write(describe(result));
      }
    } finally {
      for (const rival of rivals) rival.stop();
      model.dispose();
      rmSync(directory, { recursive: true, force: true });
    }
  }
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ machine: describeMachine(), threads, results }, null, 2)}\n`);
  }
  if (flags.picture) {
    writeFileSync(flags.picture, speedPicture(results, `${describeMachine()}, float32, medians of ${flags.rounds}`));
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
