import type { Command } from 'commander';
import { readBytes } from '../data/corpus';
import type { FloatDType } from '../dtype';
import { TransformerXLLMHeadModel } from '../models/transformerXLHeads';
import { evaluate } from '../train/evaluate';
import { deviceOption, dtypeOption, integer, jsonOption, modelFolder, seedOption } from './common';
import { ProgressBar } from './progressBar';

interface EvaluateFlags {
  targetLength: number;
  memoryLength?: number;
  batchSize: number;
  maxBatches: number;
  device: string;
  dtype: FloatDType;
  json?: boolean;
}

export function addEvaluateCommand(program: Command): void {
  program
    .command('evaluate')
    .description("a model's loss on a text, with segments and memory of any length")
    .argument('<model>', 'model folder or training directory')
    .argument('<text>', 'text file')
    .option('--target-length <n>', 'tokens per segment', integer(1), 128)
    .option('--memory-length <n>', "rows of memory; default: the model's", integer(0))
    .option('--batch-size <n>', 'streams side by side', integer(1), 1)
    .option('--max-batches <n>', 'stop after so many batches; 0: the whole text', integer(0), 0)
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(jsonOption())
    .addOption(seedOption().hideHelp())
    .addHelpText('after', '\nExample:\n  xlformers evaluate runs/book held-out.txt --memory-length 512')
    .action(run);
}

async function run(folder: string, text: string, flags: EvaluateFlags): Promise<void> {
  const { device, dtype } = flags;
  const model = await TransformerXLLMHeadModel.fromPretrained(modelFolder(folder), { device, dtype });
  const bar = new ProgressBar(process.stderr, 'evaluating');
  const started = performance.now();
  try {
    const result = await evaluate(model, await readBytes(text), {
      targetLength: flags.targetLength,
      memoryLength: flags.memoryLength ?? model.memoryLength,
      batchSize: flags.batchSize,
      maxBatches: flags.maxBatches,
      onProgress: ({ tokens, totalTokens, loss }) => {
        const seconds = (performance.now() - started) / 1000;
        bar.update({
          done: tokens,
          total: totalTokens,
          fields: [
            ['loss', loss.toFixed(4)],
            ['bpc', (loss / Math.LN2).toFixed(4)],
            ['tok/s', Math.round(tokens / seconds).toLocaleString('en')],
          ],
          secondsLeft: ((totalTokens - tokens) * seconds) / tokens,
        });
      },
    });
    bar.end();
    process.stdout.write(
      flags.json
        ? `${JSON.stringify(result)}\n`
        : `${result.tokens} tokens: loss ${result.loss.toFixed(4)}, ${result.bitsPerCharacter.toFixed(4)} bits per character, ` +
            `perplexity ${result.perplexity.toFixed(2)}\n`,
    );
  } finally {
    model.dispose();
  }
}
