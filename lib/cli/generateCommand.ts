import { type Command, Option } from 'commander';
import { readBytes } from '../data/corpus';
import { XlformersError } from '../errors';
import { generate } from '../inference/generate';
import { AutoModel } from '../models/autoModel';
import type { DecodingOptions } from '../models/decoding';
import type { ModelOptions } from '../models/pretrainedModel';
import { TransformerXLLMHeadModel } from '../models/transformerXLHeads';
import { XLNetLMHeadModel } from '../models/xlnetHeads';
import { AutoTokenizer } from '../tokenizers/autoTokenizer';
import { TextStream } from '../tokenizers/textStream';
import { deviceOption, dtypeOption, integer, jsonOption, number, seedOption } from './common';
import { addHubOptions, type ModelFlags, localModel, modelArgument, untilInterrupted } from './modelArguments';

interface GenerateFlags extends ModelFlags {
  prompt: string;
  promptFile?: string;
  paddingText: string;
  tokens: number;
  temperature: number;
  topK: number;
  topP: number;
  stopId?: number;
  memoryLength?: number;
  decoding?: DecodingOptions['decoding'];
  seed: number;
}

const help = `
XLNet continues a short prompt poorly: it learned from long texts. Put one before it with --padding-text, which is read but not shown,
and end it with the token <eod>, the end of a document.

Examples:
  xlformers generate runs/book --prompt "Call me" --tokens 200 --seed 7
  xlformers generate xlnet-base-cased --prompt "My dog is" --padding-text "$(cat story.txt) <eod>" --top-k 50
  xlformers generate xlnet-base-cased --prompt "My dog is" --decoding hf --temperature 0      # the tokens of Hugging Face`;

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('continue a text; what was read is kept, each step reads one token')
    .argument('<model>', `${modelArgument}, of a Transformer-XL or XLNet language model`)
    .option('--prompt <text>', 'what to continue', '\n')
    .option('--prompt-file <file>', 'a file to continue; goes before --prompt')
    .option('--padding-text <text>', 'goes before the prompt and is not shown', '')
    .option('--tokens <n>', 'tokens to draw', integer(0), 300)
    .option('--temperature <t>', '0: always the most probable', number(0), 0.8)
    .option('--top-k <n>', 'draw from the n most probable; 0: all', integer(0), 0)
    .option('--top-p <p>', 'draw from the smallest set of that probability', number(1e-9, 1), 0.95)
    .option('--stop-id <id>', 'end at this token, which is not shown', integer(0))
    .option('--memory-length <n>', "rows of memory; default: the model's. XLNet: 0 keeps everything", integer(0))
    .addOption(
      new Option(
        '--decoding <way>',
        "XLNet: 'exact', where memory changes nothing, or 'hf', as Hugging Face; default: 'exact'",
      ).choices(['exact', 'hf']),
    )
    .addOption(seedOption().default(1));
  addHubOptions(command)
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action(run);
}

function run(name: string, flags: GenerateFlags): Promise<void> {
  return untilInterrupted(async (signal) => {
    const { directory, options } = await localModel(name, flags, signal);
    const model = await loadModel(directory, options);
    try {
      await continueText(model, directory, flags, signal);
    } finally {
      model.dispose();
    }
  });
}

type LanguageModel = TransformerXLLMHeadModel | XLNetLMHeadModel;

async function loadModel(directory: string, options: ModelOptions): Promise<LanguageModel> {
  const model = await AutoModel.fromPretrained(directory, options);
  if (model instanceof TransformerXLLMHeadModel || model instanceof XLNetLMHeadModel) return model;
  model.dispose();
  throw new XlformersError(
    'ERR_CHECKPOINT_MISMATCH',
    `${directory}: holds a ${model.constructor.name}, expected a language model (TransfoXLLMHeadModel or XLNetLMHeadModel in config.json)`,
  );
}

async function continueText(
  model: LanguageModel,
  directory: string,
  flags: GenerateFlags,
  signal: AbortSignal,
): Promise<void> {
  const tokenizer = await AutoTokenizer.fromPretrained(directory);
  const idsOf = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).ids;
  if (flags.memoryLength !== undefined) model.resetMemoryLength(flags.memoryLength);
  const prompt = await promptOf(flags);
  const promptIds = idsOf(prompt);
  const read = Int32Array.from([...idsOf(flags.paddingText), ...promptIds]);
  if (read.length === 0) {
    throw new XlformersError('ERR_ARG_RANGE', '--prompt: gives no tokens, expected some text to continue');
  }
  const stream = new TextStream((ids) => tokenizer.decode(ids), promptIds);
  const write = (text: string) => void (flags.json || process.stdout.write(text));
  const { tokens: maxTokens, temperature, topK, topP, stopId, decoding, seed } = flags;
  const started = performance.now();
  const ids: number[] = [];
  let text = '';
  let logProbability = 0;
  // A tokenizer that drops the space at the end puts it before the next word.
  write(/\s$/.test(tokenizer.decode([...promptIds.slice(-8)])) ? prompt : prompt.trimEnd());
  const options = { maxTokens, temperature, topK, topP, stopId, decoding, seed, signal };
  for await (const token of generate(model, read, options)) {
    ids.push(token.id);
    logProbability += token.logProbability;
    const added = stream.push(token.id);
    text += added;
    write(added);
  }
  const rest = stream.end();
  text += rest;
  write(`${rest}\n`);
  if (!flags.json) return;
  const tokensPerSecond = (1000 * ids.length) / (performance.now() - started);
  process.stdout.write(`${JSON.stringify({ prompt, text, ids, logProbability, tokensPerSecond })}\n`);
}

async function promptOf({ prompt, promptFile }: GenerateFlags): Promise<string> {
  if (promptFile === undefined) return prompt;
  return Buffer.from(await readBytes(promptFile)).toString('utf8') + (prompt === '\n' ? '' : prompt);
}
