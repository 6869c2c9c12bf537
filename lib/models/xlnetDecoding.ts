import { XlformersError } from '../errors';
import type { Memory } from '../nn/memory';
import { reshape } from '../ops/shape';
import type { Tensor } from '../tensor';
import { type DecodingOptions, type DecodingSession, decodingOptions } from './decoding';
import { MemorySession, WholeTextSession } from './decodingSessions';
import type { XLNetInputs } from './xlnet';
import type { XLNetLMHeadModel } from './xlnetHeads';

/** The id at the position to predict: no row sees it. */
const dummyId = 0;

/** Rows of Hugging Face's memory that a step computes again, its `offset`. */
const recomputed = 2;

/** Decoding as `DecodingOptions.decoding` says. */
export function xlnetDecoding(model: XLNetLMHeadModel, options?: DecodingOptions): DecodingSession {
  const { decoding, useMems, segmentLength } = decodingOptions(options);
  const { attnType, biData, sameLength, useMemsEval } = model.config;
  if (biData) {
    throw new XlformersError(
      'ERR_UNSUPPORTED',
      'config.biData: got true, expected false to generate: half of each batch would run backwards',
    );
  }
  const exact = decoding === 'exact';
  if (exact && sameLength && attnType === 'uni') {
    throw new XlformersError(
      'ERR_UNSUPPORTED',
      "config.sameLength: got true with attnType 'uni', where what a token sees depends on how the text is cut; expected false, or decoding 'hf'",
    );
  }
  const order = exact ? leftToRight : bothDirections;
  if (!(useMems ?? (exact || useMemsEval))) return new WholeTextSession((texts) => readWhole(model, texts, order));
  return new MemorySession(exact ? exactReader(model, segmentLength) : hfReader(model));
}

/** Keys and values of a token are computed once, when it is new: later tokens do not change what it saw. */
function exactReader(model: XLNetLMHeadModel, segmentLength: number) {
  return {
    device: model.device,
    again: 0,
    segmentLength,
    read(ids: readonly Int32Array[], before: Memory | undefined, last: boolean) {
      const length = (ids[0] as Int32Array).length;
      const inputs = { mems: before, useMems: true, reuseLen: length };
      if (!last) {
        const { mems } = model.transformer.forward({ ...inputs, inputIds: ids, ...leftToRight(ids.length, length) });
        return { scores: null, mems: mems as Memory };
      }
      const { logits, mems } = predictNext(model, ids, leftToRight(ids.length, length + 1), inputs);
      return { scores: logits, mems: mems as Memory };
    },
  };
}

/** transformers 4.57's `prepare_inputs_for_generation`: `mems[:-offset]`, then the last `offset` tokens and a dummy. */
function hfReader(model: XLNetLMHeadModel) {
  return {
    device: model.device,
    again: recomputed - 1,
    segmentLength: Infinity,
    read(ids: readonly Int32Array[], before: Memory | undefined) {
      const length = (ids[0] as Int32Array).length;
      const order = bothDirections(ids.length, length + 1);
      const { logits, mems } = predictNext(model, ids, order, { mems: before, useMems: true });
      return { scores: logits, mems: (mems as Memory).dropLast(recomputed) };
    },
  };
}

/** Texts of any lengths, padded on the left, without memory. */
function readWhole(model: XLNetLMHeadModel, texts: readonly Int32Array[], order: Order): Tensor {
  const length = Math.max(...texts.map((text) => text.length));
  const padded = (text: Int32Array, padding: number, token: (id: number) => number) =>
    Int32Array.from({ length }, (_, index) => {
      const id = text[index - length + text.length];
      return id === undefined ? padding : token(id);
    });
  const ids = texts.map((text) => padded(text, dummyId, (id) => id));
  const inputMask = texts.map((text) => [...padded(text, 1, () => 0), 0]);
  return predictNext(model, ids, order(texts.length, length + 1), { inputMask, useMems: false }).logits;
}

/** Logits [rows, vocabSize] of what follows rows of equal length. */
function predictNext(
  model: XLNetLMHeadModel,
  ids: readonly Int32Array[],
  order: Ranks,
  inputs: XLNetInputs,
): { logits: Tensor; mems: Memory | null } {
  const length = (ids[0] as Int32Array).length;
  const { logits, mems } = model.forward({
    ...inputs,
    ...order,
    inputIds: ids.map((row) => Int32Array.from([...row, dummyId])),
    targetPositions: ids.map(() => [length]),
  });
  return { logits: reshape(logits, [ids.length, model.config.vocabSize]), mems };
}

/** Who sees whom: the key at c is hidden from the row at p when keyRanks[c] >= queryRanks[p]. */
type Ranks = Required<Pick<XLNetInputs, 'queryRanks' | 'keyRanks'>>;
type Order = (rows: number, length: number) => Ranks;

/** A causal permutation mask: each position sees those before it, the content stream itself too. */
const leftToRight: Order = (rows, length) => {
  const ranks = sameRows(rows, length, (position) => position);
  return { queryRanks: ranks, keyRanks: ranks };
};

/** Hugging Face's `perm_mask[:, :, -1] = 1`: all see all but the last. */
const bothDirections: Order = (rows, length) => ({
  queryRanks: sameRows(rows, length, () => 1),
  keyRanks: sameRows(rows, length, (position) => (position === length - 1 ? 1 : 0)),
});

function sameRows(rows: number, length: number, value: (position: number) => number): Int32Array[] {
  return new Array<Int32Array>(rows).fill(Int32Array.from({ length }, (_, position) => value(position)));
}
