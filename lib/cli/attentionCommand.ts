import type { Command } from 'commander';
import { writeFileAtomically } from '../checkpoints/atomicFile';
import { argumentError } from '../errors';
import { attentionHeatMap } from '../inference/attentionHeatMap';
import { attentionWeights } from '../inference/attentionWeights';
import { deviceOption, dtypeOption, integer, jsonOption } from './common';
import {
  addHubOptions,
  loadBareModel,
  localModel,
  modelArgument,
  type ModelFlags,
  shortFloat,
  untilInterrupted,
} from './modelArguments';
import { AutoTokenizer } from '../tokenizers/autoTokenizer';

interface AttentionFlags extends ModelFlags {
  layer: number;
  head: number;
  output?: string;
}

const defaultOutput = 'attention.svg';

export function addAttentionCommand(program: Command): void {
  const command = program
    .command('attention')
    .description('what the tokens of a text look at, as an SVG heat map')
    .argument('<model>', modelArgument)
    .argument('<text>', 'at most 200 tokens')
    .option('--layer <n>', 'layer, counted from 0', integer(0), 0)
    .option('--head <n>', 'head, counted from 0', integer(0), 0)
    .option('--output <file.svg>', `default: ${defaultOutput}; with --json none`);
  addHubOptions(command)
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Rows are the tokens that look, columns what they look at; a row sums to 1. Where a model starts with a memory, as Transformer-XL does,
the first column is all of it together. Point at a cell in a browser to read its number.

Examples:
  xlformers attention xlnet-base-cased "The cat sat on the mat." --layer 5 --head 3 --output cat.svg
  xlformers attention runs/book "Call me Ishmael." --layer 3 --json`,
    )
    .action(run);
}

function run(name: string, text: string, { layer, head, output, json, ...flags }: AttentionFlags): Promise<void> {
  return untilInterrupted(async (signal) => {
    if (output !== undefined && !output.endsWith('.svg')) {
      throw argumentError('ERR_ARG_RANGE', '--output', output, 'a name that ends in .svg');
    }
    const local = await localModel(name, flags, signal);
    const tokenizer = await AutoTokenizer.fromPretrained(local.directory);
    const model = await loadBareModel(local);
    try {
      const attention = await attentionWeights(model, tokenizer, text, { layer, head });
      const file = output ?? (json ? undefined : defaultOutput);
      if (file !== undefined) {
        await writeFileAtomically(file, attentionHeatMap(attention, `${name}, layer ${layer}, head ${head}`));
      }
      const { queries, keys, weights } = attention;
      const rows = queries.map((_, row) =>
        Array.from(weights.subarray(row * keys.length, (row + 1) * keys.length), shortFloat),
      );
      process.stdout.write(
        json
          ? `${JSON.stringify({ text, layer, head, queries, keys, weights: rows, ...(file && { file }) })}\n`
          : `${file}: layer ${layer} of ${model.config.nLayer}, head ${head} of ${model.config.nHead}, ${queries.length} tokens\n`,
      );
    } finally {
      model.dispose();
    }
  });
}
