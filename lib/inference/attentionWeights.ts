import { noGrad } from '../autograd';
import { XlformersError } from '../errors';
import { TransformerXLModel } from '../models/transformerXL';
import { XLNetModel } from '../models/xlnet';
import { requireInteger } from '../ops/checks';
import { slice } from '../ops/shape';
import { scope } from '../scope';
import { readAndDispose, tokenRow } from './textBatches';
import type { Tokenizer } from '../tokenizers/tokenizer';

/** What the tokens of a text look at. */
export interface AttentionWeights {
  layer: number;
  head: number;
  /** The tokens that look. */
  queries: string[];
  /** What is looked at: the same tokens, before them `memory` where the model starts with a memory (its rows taken together). */
  keys: string[];
  /** [queries, keys], row-major; each row sums to 1. */
  weights: Float32Array;
}

export interface AttentionWeightsOptions {
  /** Counted from 0. */
  layer: number;
  /** Counted from 0. */
  head: number;
}

/**
 * The attention of one head for a text: probabilities of the softmax, of XLNet those of the content stream.
 * @param model a bare model; of one with a head, `model.transformer`
 * @throws XlformersError ERR_ARG_RANGE when there is no such layer or head, or the text has no tokens; ERR_TOKEN_ID
 */
export async function attentionWeights(
  model: XLNetModel | TransformerXLModel,
  tokenizer: Tokenizer,
  text: string,
  { layer, head }: AttentionWeightsOptions,
): Promise<AttentionWeights> {
  const { nLayer, nHead } = model.config;
  requirePlace('layer', layer, nLayer);
  requirePlace('head', head, nHead);
  const { ids, typeIds, tokens } = tokenRow(tokenizer, text);
  const inputs = { inputIds: [ids], useMems: false, outputAttentions: true };
  const wasTraining = model.training;
  model.eval();
  try {
    // [1, heads, query, key] of one layer to [query, key] of one head.
    const chosen = noGrad(() =>
      scope(() => {
        const out =
          model instanceof XLNetModel ? model.forward({ ...inputs, tokenTypeIds: [typeIds] }) : model.forward(inputs);
        const all = out.attentions?.[layer];
        if (!all) throw new XlformersError('ERR_INTERNAL', `no attention of layer ${layer}`);
        return slice(all, 1, head, head + 1);
      }),
    );
    const values = Float32Array.from(await readAndDispose(chosen));
    const memory = values.length / tokens.length - tokens.length;
    return {
      ...{ layer, head, queries: tokens },
      keys: memory > 0 ? ['memory', ...tokens] : tokens,
      weights: memory > 0 ? gatherMemory(values, tokens.length, memory) : values,
    };
  } finally {
    if (wasTraining) model.train();
  }
}

/** [length, memory + length] to [length, 1 + length]: the rows of the memory count together. */
function gatherMemory(values: Float32Array, length: number, memory: number): Float32Array {
  const gathered = new Float32Array(length * (1 + length));
  for (let query = 0; query < length; query += 1) {
    const row = values.subarray(query * (memory + length), (query + 1) * (memory + length));
    gathered[query * (1 + length)] = row.subarray(0, memory).reduce((sum, weight) => sum + weight, 0);
    gathered.set(row.subarray(memory), query * (1 + length) + 1);
  }
  return gathered;
}

function requirePlace(name: 'layer' | 'head', value: number, count: number): void {
  requireInteger(name, value, 0);
  if (value < count) return;
  const last = count === 1 ? `0, the only ${name}` : `0 … ${count - 1} (the model has ${count} ${name}s)`;
  throw new XlformersError('ERR_ARG_RANGE', `${name}: got ${value}, expected ${last}`);
}
