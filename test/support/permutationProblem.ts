/** Random problems of permutation attention, and its formulas in double precision. */
import { Generator, Tensor, type AttentionBand, type PermutationAttentionOptions } from '../../lib';
import { ids, onDevice, operand, tensor } from './operators';
import { philoxLane16 } from './philox';
import type { TestRandom } from './random';

export type FloatName =
  | 'content'
  | 'query'
  | 'key'
  | 'value'
  | 'memoryKey'
  | 'memoryValue'
  | 'position'
  | 'contentBias'
  | 'positionBias'
  | 'segmentBias'
  | 'segmentEmbedding';

export interface Problem {
  batch: number;
  length: number;
  memory: number;
  queries: number;
  heads: number;
  headDim: number;
  reversedFrom: number;
  band: AttentionBand;
  dropout: number;
  positions: Int32Array | null;
  segments: Int32Array | null;
  ranks: { query: Int32Array; key: Int32Array } | null;
  mask: { batch: number; values: Uint8Array } | null;
  memoryStarts: Int32Array | null;
  floats: Map<FloatName, { shape: readonly number[]; values: Float64Array }>;
}

export interface Size {
  length: readonly number[];
  memory: readonly number[];
  queries: readonly number[];
  headDim: readonly number[];
}

export const large: Size = {
  length: [1, 2, 7, 17, 40, 97, 193, 210],
  memory: [0, 0, 1, 9, 64, 200],
  queries: [0, 1, 3, 13, 30],
  headDim: [1, 3, 8, 16, 31, 41, 64],
};
/** The same for the emulator: still one to three tiles of its kernels in each direction, of 32 doubles or 64 floats. */
export const emulatedLarge: Size = { ...large, length: [1, 2, 7, 17, 40, 70, 97], memory: [0, 0, 1, 9, 64] };
/** More than one tile of the CUDA kernels in each direction. */
export const emulatedTiles: Size = { length: [70], memory: [7], queries: [25], headDim: [4] };
export const small: Size = { length: [1, 3, 6, 14], memory: [0, 2, 9], queries: [0, 1, 4, 13], headDim: [1, 2, 5, 8] };

export function randomProblem(random: TestRandom, size: Size): Problem {
  const batch = random.integer(1, 3);
  const length = random.pick(size.length);
  const memory = random.pick(size.memory);
  const queries = random.pick(size.queries);
  const heads = random.integer(1, 2);
  const headDim = random.pick(size.headDim);
  const masks = random.pick(['none', 'ranks', 'ranks', 'dense', 'both'] as const);
  const ranks = masks === 'ranks' || masks === 'both';
  const dense = masks === 'dense' || masks === 'both';
  const maskBatch = random.pick([1, batch]);
  const segments = random.pick([true, false]);
  const floats: Problem['floats'] = new Map();
  const put = (name: FloatName, shape: readonly number[]) => floats.set(name, operand(random, shape, 0.7));
  put('content', [batch, length, heads, headDim]);
  if (queries > 0) put('query', [batch, queries, heads, headDim]);
  put('key', [batch, length, heads, headDim]);
  put('value', [batch, length, heads, headDim]);
  if (memory > 0) {
    put('memoryKey', [batch, memory, heads, headDim]);
    put('memoryValue', [batch, memory, heads, headDim]);
  }
  put('position', [2 * (memory + length) + 1, heads, headDim]);
  put('contentBias', [heads, headDim]);
  put('positionBias', [heads, headDim]);
  if (segments) {
    put('segmentBias', [heads, headDim]);
    put('segmentEmbedding', [2, heads, headDim]);
  }
  return {
    batch,
    length,
    memory,
    queries,
    heads,
    headDim,
    reversedFrom: random.integer(0, batch),
    band: random.pick([
      { upper: Infinity },
      { upper: Infinity },
      { upper: 0 },
      { upper: 2, lower: Math.min(0, memory) },
    ]),
    dropout: random.pick([0, 0, 0.25]),
    positions:
      queries > length || random.pick([true, true, false]) ? random.integers(batch * queries, -1, length - 1) : null,
    segments: segments ? random.integers(batch * length, 0, 2) : null,
    ranks: ranks
      ? { query: random.integers(batch * length, 0, length), key: random.integers(batch * length, 0, length) }
      : null,
    mask: dense
      ? {
          batch: maskBatch,
          values: Uint8Array.from(random.integers(maskBatch * length * length, 0, 2), (value) => (value === 2 ? 1 : 0)),
        }
      : null,
    memoryStarts: random.pick([true, false]) ? random.integers(batch, 0, memory) : null,
    floats,
  };
}

/** Whether masks and band hide current or memory key j from the query at row p of sequence b. */
function hidden(
  { batch, length, memory, band, ranks, mask, memoryStarts }: Problem,
  b: number,
  p: number,
  j: number,
): boolean {
  const { upper = 0, lower = null } = band;
  if (j > memory + p + upper || (lower !== null && j < p + lower)) return true;
  if (j < memory) return memoryStarts !== null && j < (memoryStarts[b] as number);
  const c = j - memory;
  if (ranks && (ranks.key[b * length + c] as number) >= (ranks.query[b * length + p] as number)) return true;
  if (!mask) return false;
  const sequence = mask.batch === batch ? b : 0;
  return mask.values[(sequence * length + p) * length + c] !== 0;
}

/** Whether a query of the query stream sees no key at all. */
export function hasBlindQuery(problem: Problem): boolean {
  const { batch, length, memory, queries, positions } = problem;
  for (let b = 0; b < batch; b += 1) {
    for (let n = 0; n < queries; n += 1) {
      const p = positions ? positions[b * queries + n]! : n;
      const keys = Array.from({ length: memory + length }, (_, j) => j);
      if (p >= 0 && keys.every((j) => hidden(problem, b, p, j))) return true;
    }
  }
  return false;
}

export interface StreamExpectation {
  out: Float64Array;
  probabilities: Float64Array;
}

/** The formulas of Yang et al. 2019, sections 2.3 and 2.5, as Hugging Face's rel_attn_core has them, in double precision. */
export function reference(
  problem: Problem,
  stream: 'content' | 'query',
  seed: number,
  offset: number,
): StreamExpectation {
  const { batch, length, memory, heads, headDim, dropout, positions, segments } = problem;
  const rows = stream === 'content' ? length : problem.queries;
  const keys = memory + length;
  const value = (name: FloatName, index: number) => problem.floats.get(name)?.values[index] ?? 0;
  const threshold = Math.floor(dropout * 65536 + 0.5);
  const out = new Float64Array(batch * rows * heads * headDim);
  const probabilities = new Float64Array(batch * heads * rows * keys);
  for (let b = 0; b < batch; b += 1) {
    for (let n = 0; n < rows; n += 1) {
      const p = stream === 'query' && positions ? (positions[b * rows + n] as number) : n;
      if (p < 0) continue;
      for (let h = 0; h < heads; h += 1) {
        const keyRow = (name: 'key' | 'value', j: number, d: number) =>
          j < memory
            ? value(name === 'key' ? 'memoryKey' : 'memoryValue', ((b * memory + j) * heads + h) * headDim + d)
            : value(name, ((b * length + j - memory) * heads + h) * headDim + d);
        const scores = Array.from({ length: keys }, (_, j) => {
          const own = stream === 'content' && j === memory + p;
          if (!own && hidden(problem, b, p, j)) return -1e30;
          const distance = (memory + p - j) * (b >= problem.reversedFrom ? -1 : 1) + memory + length;
          const other = (j < memory ? 0 : segments?.[b * length + j - memory]) !== segments?.[b * length + p] ? 1 : 0;
          let score = 0;
          for (let d = 0; d < headDim; d += 1) {
            const q = value(stream, ((b * rows + n) * heads + h) * headDim + d);
            score += (q + value('contentBias', h * headDim + d)) * keyRow('key', j, d);
            score +=
              (q + value('positionBias', h * headDim + d)) * value('position', (distance * heads + h) * headDim + d);
            if (segments) {
              score +=
                (q + value('segmentBias', h * headDim + d)) *
                value('segmentEmbedding', (other * heads + h) * headDim + d);
            }
          }
          return score / Math.sqrt(headDim);
        });
        const top = Math.max(...scores);
        const sum = scores.reduce((total, score) => total + Math.exp(score - top), 0);
        scores.forEach((score, j) => {
          const kept = dropout === 0 || philoxLane16(seed, offset, [j >> 3, n, b * heads + h], j & 7) >= threshold;
          const probability = kept ? Math.exp(score - top) / sum / (1 - dropout) : 0;
          probabilities[((b * heads + h) * rows + n) * keys + j] = probability;
          for (let d = 0; d < headDim; d += 1) {
            const index = ((b * rows + n) * heads + h) * headDim + d;
            out[index] = (out[index] as number) + probability * keyRow('value', j, d);
          }
        });
      }
    }
  }
  return { out, probabilities };
}

/** The options of a problem with tensors of a type, or with the given ones. */
export function optionsOf(
  problem: Problem,
  dtype: 'float32' | 'float64',
  given?: ReadonlyMap<FloatName, Tensor>,
): PermutationAttentionOptions {
  const { batch, length, memory, queries, positions, segments, ranks, mask } = problem;
  const floats = Object.fromEntries(
    [...problem.floats].map(([name, { shape, values }]) => [name, given?.get(name) ?? tensor(values, shape, dtype)]),
  ) as Record<FloatName, Tensor>;
  return {
    ...floats,
    queryPositions: positions && queries > 0 ? ids(positions, [batch, queries]) : null,
    firstDistance: -(memory + length),
    reversedFrom: problem.reversedFrom,
    segments: segments && ids(segments, [batch, length]),
    queryRanks: ranks && ids(ranks.query, [batch, length]),
    keyRanks: ranks && ids(ranks.key, [batch, length]),
    mask: mask && Tensor.from(mask.values, [mask.batch, length, length], onDevice),
    memoryStarts: problem.memoryStarts && ids(problem.memoryStarts),
    band: problem.band,
    dropout: problem.dropout,
    generator: new Generator(9),
  };
}

/** What a test of it is called. */
export const title = ({ floats, positions, segments, ranks, mask, memoryStarts, ...numbers }: Problem) =>
  JSON.stringify({
    ...numbers,
    positions: !!positions,
    segments: !!segments,
    ranks: !!ranks,
    mask: !!mask,
    memoryStarts: !!memoryStarts,
    n: floats.size,
  });

/** A random order of 0 … length - 1. */
export function permutationOf(random: TestRandom, length: number): number[] {
  const order = Array.from({ length }, (_, index) => index);
  for (let index = length - 1; index > 0; index -= 1) {
    const other = random.integer(0, index);
    [order[index], order[other]] = [order[other]!, order[index]!];
  }
  return order;
}
