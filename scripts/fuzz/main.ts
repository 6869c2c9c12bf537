import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command, Option } from 'commander';
import { formats } from './formats';
import type { Format } from './format';
import { type FuzzCase, fuzz } from './run';

interface Flags {
  format?: string;
  cases: string;
  seed: string;
  first: string;
  dump?: string;
}

const flags = new Command('fuzz')
  .description(
    'mutates real files and reads them: each is accepted or refused with an error of ours, in time and memory',
  )
  .addOption(new Option('--format <name>', 'default: all, one after the other').choices(Object.keys(formats)))
  .option('--cases <n>', 'of each format', '10000')
  .option('--seed <n>', 'the same seed gives the same files', '1')
  .option('--first <n>', 'number of the first case; with --cases 1 that case alone', '0')
  .option('--dump <folder>', 'also writes each file, and outcomes.jsonl, for scripts/reference/fuzz_oracle.py')
  .addHelpText('after', '\nExample: npx ts-node scripts/fuzz/main.ts --format safetensors --cases 100000 --seed 7\n')
  .parse()
  .opts<Flags>();

async function run(name: string, format: Format): Promise<void> {
  const lines: string[] = [];
  const dump = flags.dump === undefined ? null : path.join(flags.dump, name);
  if (dump) mkdirSync(dump, { recursive: true });
  const onCase = ({ index, file, outcome }: FuzzCase): void => {
    if (!dump) return;
    writeFileSync(path.join(dump, String(index)), file);
    lines.push(JSON.stringify({ file: String(index), outcome }));
  };
  const started = Date.now();
  const range = { seed: Number(flags.seed), first: Number(flags.first), cases: Number(flags.cases) };
  const { outcomes, slowestMilliseconds } = await fuzz(format, { ...range, onCase });
  if (dump) writeFileSync(path.join(dump, 'outcomes.jsonl'), `${lines.join('\n')}\n`);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  process.stdout.write(
    `${name}: ${range.cases} cases from seed ${range.seed} in ${seconds} s, the slowest ${slowestMilliseconds.toFixed(0)} ms\n`,
  );
  for (const [outcome, count] of [...outcomes].sort(([, a], [, b]) => b - a)) {
    process.stdout.write(`  ${String(count).padStart(9)} ${outcome}\n`);
  }
}

async function main(): Promise<void> {
  for (const [name, format] of Object.entries(formats)) {
    if (flags.format === undefined || flags.format === name) await run(name, format);
  }
}

void main();
