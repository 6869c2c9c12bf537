import { XlformersError, describe } from '../errors';
import { TransformerXLModel } from '../models/transformerXL';
import { XLNetModel } from '../models/xlnet';
import { widened } from '../ops/cast';
import { embedding } from '../ops/embedding';
import { mapRows } from '../ops/mapRows';
import { reshape } from '../ops/shape';
import { Tensor } from '../tensor';
import { inBatches, type TextBatchOptions, type TokenBatch } from './textBatches';
import type { Tokenizer } from '../tokenizers/tokenizer';

/** Which vector stands for a text. */
export const poolings = ['last', 'first', 'mean', 'none'] as const;

/**
 * `last`: the last token's (XLNet's `<cls>`), `first`: the first one's, `mean`: the mean over all tokens, special ones included and
 * padding left out, `none`: every token's.
 */
export type Pooling = (typeof poolings)[number];

export interface EncodeTextsOptions extends TextBatchOptions {
  /** Default 'last'. */
  pool?: Pooling;
}

/** What a model makes of a text. */
export interface EncodedText {
  text: string;
  ids: Int32Array;
  tokens: string[];
  /** [dModel]; with pool 'none' [tokens, dModel]. */
  shape: readonly number[];
  /** The last layer's hidden states, row-major. */
  values: Float32Array | Float64Array;
}

/**
 * Vectors of texts: hidden states of the last layer, pooled or all. Texts are padded to the longest of their batch, which changes
 * nothing. Transformer-XL starts each text with the memory that its configuration says.
 * @param model a bare model; of one with a head, `model.transformer`
 * @returns one result after the other, in the order of the texts
 * @throws XlformersError ERR_ARG_*, ERR_TOKEN_ID when tokenizer and model do not belong together; the signal's reason when aborted
 */
export async function* encodeTexts(
  model: XLNetModel | TransformerXLModel,
  tokenizer: Tokenizer,
  texts: readonly string[],
  { pool = 'last', ...options }: EncodeTextsOptions = {},
): AsyncGenerator<EncodedText> {
  if (!poolings.includes(pool)) {
    throw new XlformersError('ERR_ARG_RANGE', `pool: got ${describe(pool)}, expected one of ${poolings.join(', ')}`);
  }
  const { dModel } = model.config;
  const padId = model instanceof XLNetModel ? model.config.padTokenId : 0;
  const forward = (batch: TokenBatch) => pooled(hiddenStates(model, batch), batch, pool);
  for await (const { text, ids, tokens, start, values } of inBatches(
    model,
    tokenizer,
    texts,
    options,
    padId < 0 ? null : padId,
    forward,
  )) {
    const floats = values as Float32Array | Float64Array;
    yield pool === 'none'
      ? {
          ...{ text, ids, tokens, shape: [ids.length, dModel] },
          values: floats.slice(start * dModel, (start + ids.length) * dModel),
        }
      : { text, ids, tokens, shape: [dModel], values: floats.slice() };
  }
}

/** @returns [batch, length, dModel] */
function hiddenStates(
  model: XLNetModel | TransformerXLModel,
  { inputIds, tokenTypeIds, attentionMask }: TokenBatch,
): Tensor {
  return model instanceof XLNetModel
    ? model.forward({ inputIds, tokenTypeIds, ...(attentionMask && { attentionMask }), useMems: false }).lastHiddenState
    : model.forward({ inputIds, useMems: false }).lastHiddenState;
}

/** @param states [batch, length, dModel] @returns [batch, dModel]; [batch, length, dModel] for 'none' */
function pooled(states: Tensor, { rows, starts, length }: TokenBatch, pool: Pooling): Tensor {
  if (pool === 'none') return states;
  const [batch, , dModel] = states.shape as [number, number, number];
  const { device, dtype } = states;
  const ends = rows.map(({ ids }, row) => (starts[row] as number) + ids.length);
  if (pool === 'mean') {
    const shares = new (dtype === 'float64' ? Float64Array : Float32Array)(batch * length);
    rows.forEach(({ ids }, row) =>
      shares.fill(1 / ids.length, row * length + (starts[row] as number), row * length + (ends[row] as number)),
    );
    return reshape(mapRows(widened(states), Tensor.from(shares, [batch, 1, length], { device })), [batch, dModel]);
  }
  const positions = Int32Array.from(
    rows,
    (_, row) => row * length + (pool === 'first' ? (starts[row] as number) : (ends[row] as number) - 1),
  );
  return embedding(Tensor.from(positions, [batch], { device }), reshape(states, [batch * length, dModel]));
}
