import { type Command, Option } from 'commander';
import { writeNpy } from '../checkpoints/npy';
import { XlformersError, argumentError } from '../errors';
import { type EncodedText, encodeTexts, type Pooling, poolings } from '../inference/encodeTexts';
import { tokenRow } from '../inference/textBatches';
import { AutoTokenizer } from '../tokenizers/autoTokenizer';
import type { Tokenizer } from '../tokenizers/tokenizer';
import {
  addTextOptions,
  jsonLinesOption,
  loadBareModel,
  localModel,
  modelArgument,
  readTexts,
  shortFloat,
  type TextFlags,
  textsArgument,
  untilInterrupted,
  withProgress,
} from './modelArguments';

interface EncodeFlags extends TextFlags {
  pool: Pooling;
  output?: string;
}

export function addEncodeCommand(program: Command): void {
  const command = program
    .command('encode')
    .description('vectors of texts: hidden states of the last layer, pooled or all')
    .argument('<model>', modelArgument)
    .argument('[texts...]', textsArgument)
    .addOption(
      new Option('--pool <kind>', "one vector for a text, or 'none': one for every token")
        .choices(poolings)
        .default('last'),
    )
    .option('--output <file.npy>', 'write a NumPy file instead of printing');
  addTextOptions(command)
    .addOption(jsonLinesOption())
    .addHelpText(
      'after',
      `
Pooling: 'last' is the last token (XLNet's <cls>, made to stand for a text), 'first' the first, 'mean' the mean over all tokens,
<sep> and <cls> included. Padding never counts.

Printed are the numbers of a vector on a line, which numpy.loadtxt reads. A .npy file has float32 of shape [texts, width]; with
--pool none [texts, longest, width], where rows behind the end of a text are zero, and the lengths are printed.

Examples:
  xlformers encode xlnet-base-cased "Hello, world!"
  xlformers encode xlnet-base-cased "Hello, world!" --pool none --json
  xlformers encode runs/book --file lines.txt --pool mean --output vectors.npy`,
    )
    .action(run);
}

function run(name: string, given: string[], flags: EncodeFlags): Promise<void> {
  const { pool, output, json, batchSize } = flags;
  return untilInterrupted(async (signal) => {
    if (output !== undefined && !output.endsWith('.npy')) {
      throw argumentError('ERR_ARG_RANGE', '--output', output, 'a name that ends in .npy');
    }
    const texts = await readTexts(given, flags.file);
    const local = await localModel(name, flags, signal);
    const tokenizer = await AutoTokenizer.fromPretrained(local.directory);
    const model = await loadBareModel(local);
    try {
      const toTerminal = output === undefined && process.stdout.isTTY;
      const results = withProgress(
        encodeTexts(model, tokenizer, texts, { pool, batchSize, signal }),
        texts.length,
        'encoding',
        !toTerminal && texts.length > batchSize,
      );
      if (output !== undefined) {
        await writeArray(output, results, texts, tokenizer, model.config.dModel, flags);
        return;
      }
      for await (const result of results) process.stdout.write(json ? asJson(result) : asText(result));
    } finally {
      model.dispose();
    }
  });
}

/** Rows of [values]: one of a pooled vector, one for each token of hidden states. */
function rowsOf({ shape, values }: EncodedText): number[][] {
  const width = shape.at(-1) as number;
  return Array.from({ length: values.length / width }, (_, row) =>
    Array.from(values.subarray(row * width, (row + 1) * width), shortFloat),
  );
}

function asText(result: EncodedText): string {
  return rowsOf(result)
    .map((row) => `${row.join(' ')}\n`)
    .join('');
}

function asJson(result: EncodedText): string {
  const { text, ids, tokens, shape } = result;
  const rows = rowsOf(result);
  const vectors = shape.length === 1 ? { vector: rows[0] } : { hiddenStates: rows };
  return `${JSON.stringify({ text, ids: Array.from(ids), tokens, ...vectors })}\n`;
}

async function writeArray(
  file: string,
  results: AsyncIterable<EncodedText>,
  texts: readonly string[],
  tokenizer: Tokenizer,
  width: number,
  { pool, json }: EncodeFlags,
): Promise<void> {
  const lengths = texts.map((text, index) => tokenRow(tokenizer, text, `texts[${index}]`).ids.length);
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  const shape = pool === 'none' ? [texts.length, longest, width] : [texts.length, width];
  const elements = pool === 'none' ? longest * width : width;
  await writeNpy(file, shape, padded(results, elements));
  process.stdout.write(
    json
      ? `${JSON.stringify({ file, dtype: 'float32', shape, pool, lengths })}\n`
      : `${file}: float32 [${shape.join(', ')}]${pool === 'none' ? `, tokens of each text: ${lengths.join(', ')}` : ''}\n`,
  );
}

/** Each text's values, with zeros behind them up to `elements`. */
async function* padded(results: AsyncIterable<EncodedText>, elements: number): AsyncGenerator<Float32Array> {
  for await (const { values } of results) {
    if (values.length > elements) throw new XlformersError('ERR_INTERNAL', 'a text became longer than it was');
    const row = new Float32Array(elements);
    row.set(values);
    yield row;
  }
}
