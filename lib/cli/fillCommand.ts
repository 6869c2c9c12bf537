import { type Command, Option } from 'commander';
import { XlformersError } from '../errors';
import { type FilledText, fillMasked } from '../inference/fillMasked';
import { XLNetLMHeadModel } from '../models/xlnetHeads';
import { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { deviceOption, dtypeOption, integer, jsonOption } from './common';
import {
  addHubOptions,
  localModel,
  modelArgument,
  type ModelFlags,
  requireHead,
  shortFloat,
  untilInterrupted,
} from './modelArguments';
import { AutoTokenizer } from '../tokenizers/autoTokenizer';

interface FillFlags extends ModelFlags {
  topK: number;
  order: 'independent' | 'left-to-right';
}

export function addFillCommand(program: Command): void {
  const command = program
    .command('fill')
    .description("predict the <mask>s of a text with XLNet's two streams")
    .argument('<model>', modelArgument)
    .argument('<text>', 'a text with <mask> at each place to fill')
    .option('--top-k <n>', 'candidates for each place', integer(1), 5)
    .addOption(
      new Option('--order <order>', 'how places know of each other')
        .choices(['independent', 'left-to-right'])
        .default('independent'),
    );
  addHubOptions(command)
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Each place sees the whole text but the places still open. 'independent' predicts all from that; 'left-to-right' puts the most
probable token into a place before it predicts the next. XLNet knows little from a short text: give it sentences around the places.

Examples:
  xlformers fill xlnet-base-cased "The capital of France is <mask>, and its river is the <mask>."
  xlformers fill xlnet-base-cased "It was the <mask> of times." --top-k 10 --json`,
    )
    .action(run);
}

function run(name: string, text: string, { topK, order, json, ...flags }: FillFlags): Promise<void> {
  return untilInterrupted(async (signal) => {
    const local = await localModel(name, flags, signal);
    const { directory, config, options } = local;
    if (config.model_type === 'transfo-xl') {
      throw new XlformersError(
        'ERR_CHECKPOINT_MISMATCH',
        `${directory}: is a Transformer-XL, which reads from left to right only; fill needs an XLNet. With this one, 'generate' continues a text`,
      );
    }
    await requireHead(local, {
      command: 'fill',
      architectures: ['XLNetLMHeadModel'],
      weight: /^lm_loss\.bias$/,
      advice: 'as xlnet-base-cased is',
    });
    const tokenizer = await AutoTokenizer.fromPretrained(local.directory);
    if (!(tokenizer instanceof XLNetTokenizer)) {
      throw new XlformersError('ERR_TOKENIZER_FILE', `${directory}: has no tokenizer with <mask>; fill needs XLNet's`);
    }
    const model = await XLNetLMHeadModel.fromPretrained(directory, options);
    try {
      const filled = await fillMasked(model, tokenizer, text, {
        topK,
        order: order === 'independent' ? order : 'leftToRight',
        signal,
      });
      process.stdout.write(json ? `${asJson(filled, order)}\n` : describeFilled(filled));
    } finally {
      model.dispose();
    }
  });
}

function asJson({ text, ids, places, logProbability }: FilledText, order: string): string {
  const short = places.map(({ position, candidates }) => ({
    position,
    candidates: candidates.map((each) => ({ ...each, probability: shortFloat(each.probability) })),
  }));
  return JSON.stringify({ text, ids: Array.from(ids), places: short, logProbability, order });
}

function describeFilled({ text, places }: FilledText): string {
  const tables = places.map(({ position, candidates }, index) => {
    const rows = candidates.map(({ token, probability }) => `  ${percent(probability)}  ${token}\n`);
    return `<mask> ${index + 1}, token ${position + 1}\n${rows.join('')}`;
  });
  return `${tables.join('')}${text}\n`;
}

/** Right-aligned: " 93.51 %". */
export function percent(share: number): string {
  return `${(100 * share).toFixed(2).padStart(6)} %`;
}
