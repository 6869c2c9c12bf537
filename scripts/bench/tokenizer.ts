import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { AutoTokenizer } from '../../lib';
import { mobyDick } from '../dataset';

interface Flags {
  folder: string;
  text?: string;
  rounds: string;
}

const program = new Command('tokenizer')
  .description('speed of a tokenizer on one thread, in MB of UTF-8 text per second; medians')
  .option('--folder <path>', 'of a tokenizer', path.join(__dirname, '../../test/fixtures/tokenizers/xlnet-small'))
  .option('--text <file>', 'default: Moby Dick')
  .option('--rounds <n>', 'measurements per case', '7')
  .parse();

async function main(): Promise<void> {
  const { folder, text: file, rounds } = program.opts<Flags>();
  const text = readFileSync(file ?? (await mobyDick()), 'utf8');
  const lines = text.split('\n');
  const megabytes = Buffer.byteLength(text) / 1e6;
  const report = (name: string, milliseconds: number) =>
    console.log(`${name.padEnd(34)} ${(megabytes / (milliseconds / 1000)).toFixed(1).padStart(6)} MB/s`);

  const started = performance.now();
  const tokenizer = await AutoTokenizer.fromPretrained(folder);
  console.log(`${megabytes.toFixed(2)} MB of text; loaded in ${(performance.now() - started).toFixed(0)} ms`);
  report(
    'whole text, nothing seen before',
    time(() => tokenizer.encode(text)),
  );
  const cases: [name: string, run: () => void][] = [
    ['whole text', () => tokenizer.encode(text)],
    ['line by line', () => lines.forEach((line) => tokenizer.encode(line))],
  ];
  for (const [name, run] of cases) {
    const times = Array.from({ length: Number(rounds) }, () => time(run)).sort((a, b) => a - b);
    report(name, times[times.length >> 1] as number);
  }
}

function time(run: () => void): number {
  const started = performance.now();
  run();
  return performance.now() - started;
}

void main();
