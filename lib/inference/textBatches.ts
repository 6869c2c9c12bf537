/** Texts through a model, some at a time: what encoding and classifying share. */
import { noGrad } from '../autograd';
import type { TypedArray } from '../dtype';
import { XlformersError, argumentError } from '../errors';
import type { PretrainedModel } from '../models/pretrainedModel';
import { XLNetBase } from '../models/xlnet';
import { requireInteger } from '../ops/checks';
import { scope } from '../scope';
import type { Tensor } from '../tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';

/** A text as a model reads it, an entry per token. */
export interface TokenRow {
  ids: Int32Array;
  /** Segments; all zero where the tokenizer has none. */
  typeIds: Int32Array;
  tokens: string[];
}

/** @throws XlformersError ERR_ARG_TYPE; ERR_ARG_RANGE when the text has no tokens */
export function tokenRow(tokenizer: Tokenizer, text: string, name = 'text'): TokenRow {
  if (typeof text !== 'string') throw argumentError('ERR_ARG_TYPE', name, text, 'a string');
  const { ids, typeIds, tokens } = tokenizer.encode(text);
  if (ids.length === 0) {
    throw new XlformersError('ERR_ARG_RANGE', `${name}: has no tokens, expected at least one`);
  }
  return { ids, typeIds, tokens };
}

/** Rows of equal length, [batch, length]. */
export interface TokenBatch {
  rows: readonly TokenRow[];
  length: number;
  /** Where each row's tokens begin: XLNet's padding is on the left, Transformer-XL's, whose rows see only what is before, on the right. */
  starts: readonly number[];
  inputIds: Int32Array[];
  tokenTypeIds: Int32Array[];
  /** 1 for tokens; undefined where nothing is padding. */
  attentionMask: number[][] | undefined;
}

/** The type id of padding, which is no segment (as transformers' XLNet tokenizers have it). */
const padTypeId = 3;

function padRows(rows: readonly TokenRow[], padId: number, side: 'left' | 'right'): TokenBatch {
  const length = Math.max(...rows.map(({ ids }) => ids.length));
  const starts = rows.map(({ ids }) => (side === 'left' ? length - ids.length : 0));
  const placed = (pick: (row: TokenRow) => Int32Array, filler: number) =>
    rows.map((row, index) => {
      const values = new Int32Array(length).fill(filler);
      values.set(pick(row), starts[index]);
      return values;
    });
  const padded = rows.some(({ ids }) => ids.length !== length);
  return {
    rows,
    length,
    starts,
    inputIds: placed(({ ids }) => ids, padId),
    tokenTypeIds: placed(({ typeIds }) => typeIds, padTypeId),
    attentionMask: padded
      ? placed(({ ids }) => new Int32Array(ids.length).fill(1), 0).map((row) => Array.from(row))
      : undefined,
  };
}

export interface TextBatchOptions {
  /** Texts side by side. Default 8. */
  batchSize?: number;
  signal?: AbortSignal;
}

/** One text's share of a batch. */
export interface TextResult extends TokenRow {
  text: string;
  /** Where its tokens begin among the padded ones. */
  start: number;
  values: TypedArray;
}

/**
 * Runs `forward` on one batch after the other, with dropout off, and yields each text's part of the result in the order of the texts.
 * @param padId fills rows up; null: one text at a time
 * @param forward gives a tensor [batch, ...]
 * @throws XlformersError ERR_ARG_*, ERR_TOKEN_ID when tokenizer and model do not belong together; the signal's reason when aborted
 */
export async function* inBatches(
  model: PretrainedModel,
  tokenizer: Tokenizer,
  texts: readonly string[],
  { batchSize = 8, signal }: TextBatchOptions,
  padId: number | null,
  forward: (batch: TokenBatch) => Tensor,
): AsyncGenerator<TextResult> {
  requireInteger('batchSize', batchSize, 1);
  if (!Array.isArray(texts)) throw argumentError('ERR_ARG_TYPE', 'texts', texts, 'an array of strings');
  const step = padId === null ? 1 : batchSize;
  const side = model instanceof XLNetBase ? 'left' : 'right';
  const wasTraining = model.training;
  model.eval();
  try {
    for (let first = 0; first < texts.length; first += step) {
      signal?.throwIfAborted();
      const part = texts.slice(first, first + step);
      const rows = part.map((text, index) => tokenRow(tokenizer, text, `texts[${first + index}]`));
      const batch = padRows(rows, padId ?? 0, side);
      const result = noGrad(() => scope(() => forward(batch)));
      const values = await readAndDispose(result);
      const share = values.length / part.length;
      for (const [index, row] of rows.entries()) {
        yield {
          ...row,
          text: part[index] as string,
          start: batch.starts[index] as number,
          values: values.subarray(index * share, (index + 1) * share),
        };
      }
    }
  } finally {
    if (wasTraining) model.train();
  }
}

/** @internal The values of a tensor that nothing else needs. */
export async function readAndDispose(tensor: Tensor): Promise<TypedArray> {
  try {
    return await tensor.data();
  } finally {
    tensor.dispose();
  }
}
