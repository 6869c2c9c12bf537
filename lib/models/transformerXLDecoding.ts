import type { Memory } from '../nn/memory';
import { embedding } from '../ops/embedding';
import { reshape, slice } from '../ops/shape';
import { Tensor } from '../tensor';
import { XlformersError } from '../errors';
import { type DecodingOptions, type DecodingSession, decodingOptions } from './decoding';
import { MemorySession, WholeTextSession } from './decodingSessions';
import type { TransformerXLModel } from './transformerXL';
import { TransformerXLRing } from './transformerXLRing';
import { MemoryRing } from '../nn/memoryRing';

/**
 * Decoding with the model's memory, whose first rows are what `config.compatibility` says, for each text on its own. Without memory
 * (`useMems: false`, or a memory length of 0), every step reads the whole text.
 * @param scoresOf of states [rows, dModel]
 */
export function transformerXLDecoding(
  model: TransformerXLModel,
  scoresOf: (states: Tensor) => Tensor,
  options?: DecodingOptions,
): DecodingSession {
  const { decoding, useMems = true, segmentLength } = decodingOptions(options);
  if (decoding !== 'exact') {
    throw new XlformersError(
      'ERR_UNSUPPORTED',
      "decoding: got 'hf', which is a way of XLNet; Transformer-XL has 'exact' only",
    );
  }
  const { dModel } = model.config;
  if (!useMems || model.memoryLength === 0) {
    return new WholeTextSession((texts) => {
      // Padding comes last, where no token sees it.
      const length = Math.max(...texts.map((text) => text.length));
      const inputIds = texts.map((text) => [...text, ...new Array<number>(length - text.length).fill(0)]);
      const { lastHiddenState } = model.forward({ inputIds, useMems: false });
      const ends = Int32Array.from(texts, (text, index) => index * length + text.length - 1);
      const rows = reshape(lastHiddenState, [texts.length * length, dModel]);
      return scoresOf(embedding(Tensor.from(ends, undefined, { device: rows.device }), rows));
    });
  }
  return new MemorySession({
    device: model.device,
    again: 0,
    segmentLength,
    ring: (memory) => {
      if (!model.fillsRing(memory)) return null;
      const scoresOfNewest = (states: Tensor) => scoresOf(reshape(states, [states.shape[0] as number, dModel]));
      return new TransformerXLRing(model, scoresOfNewest, MemoryRing.of(memory));
    },
    read(ids, before, last) {
      const { lastHiddenState, mems } = model.forward({ inputIds: ids, mems: before });
      if (!last) return { scores: null, mems: mems as Memory };
      const [rows, length] = lastHiddenState.shape as [number, number, number];
      const newest = reshape(slice(lastHiddenState, 1, length - 1, length), [rows, dModel]);
      return { scores: scoresOf(newest), mems: mems as Memory };
    },
  });
}
