import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { XlformersError } from '../errors';
import { native, type NativeAttentionStream, type NativePermutationAttention } from '../native';
import type { Generator } from '../random';
import { needsTape, Tensor } from '../tensor';
import { type AttentionBand, refuseRing, resolveBand, visibleDistances } from './attentionBand';
import { requireFloat, requireIds, requireInteger, requireProbability, requireSameKind, requireShape } from './checks';
import { drawFor } from './dropout';

/** B sequences of T rows after M rows of memory; H heads of size d. */
export interface PermutationAttentionOptions {
  /** Content stream [B, T, H, d]: query n stands at row n and sees its own key whatever the masks say. */
  content?: Tensor | null;
  /** Query stream [B, P, H, d]: sees its own key only where the masks let it. */
  query?: Tensor | null;
  /** int32 [B, P]: the row at which each query of the query stream stands; -1: nowhere, its output is 0. Default: query n at row n. */
  queryPositions?: Tensor | null;
  /** [B, T, H, d] */
  key: Tensor;
  /** [B, T, H, d] */
  value: Tensor;
  /** [B, M, H, d]: keys that precede `key`, visible to every rank and mask; read where they lie. */
  memoryKey?: Tensor | null;
  /** [B, M, H, d] */
  memoryValue?: Tensor | null;
  /** Projected relative positions [R, H, d]: row i belongs to distance firstDistance + i. */
  position: Tensor;
  /** Distance of the first position row. Default 0. */
  firstDistance?: number;
  /** Batch rows from here on read the sequence backwards: the position of the negated distance. Default B. */
  reversedFrom?: number;
  /** r_w_bias [H, d]. */
  contentBias?: Tensor | null;
  /** r_r_bias [H, d]. */
  positionBias?: Tensor | null;
  /** r_s_bias [H, d]. */
  segmentBias?: Tensor | null;
  /** seg_embed [2, H, d]: of the same, of another segment. */
  segmentEmbedding?: Tensor | null;
  /** int32 [B, T], with segmentEmbedding. Memory counts as segment 0. */
  segments?: Tensor | null;
  /** int32 [B, T], both or none: the key at row c is hidden from queries at row p when keyRanks[c] >= queryRanks[p]. */
  queryRanks?: Tensor | null;
  keyRanks?: Tensor | null;
  /** uint8 [1 or B, T, T]: not 0 at [p, c] hides the key at row c from queries at row p. */
  mask?: Tensor | null;
  /** uint8 [B, T]: not 0 hides the key at that row from all (padding). */
  keyMask?: Tensor | null;
  /** int32 [B], in [0, M]: memory rows before it are hidden from that batch row, whose memory is shorter. Default: none. */
  memoryStarts?: Tensor | null;
  /** int32 [1], in [0, M): the memory is a ring, whose row j lies at row (memoryHead + j) mod M. Without gradient only. Default: none. */
  memoryHead?: Tensor | null;
  /** Factor of each head's output [H]; no gradient flows to it. */
  headScale?: Tensor | null;
  /** Factor of the scores. Default d^-1/2. */
  scale?: number;
  /** Keys beyond it are hidden. Default: no limit. */
  band?: AttentionBand;
  /** Dropout probability on the attention probabilities. Default 0. */
  dropout?: number;
  /** Required when dropout > 0. */
  generator?: Generator | null;
}

export interface PermutationAttentionResult {
  /** [B, T, H, d]; null without content queries. */
  content: Tensor | null;
  /** [B, P, H, d]; null without a query stream. */
  query: Tensor | null;
  /** The probabilities [B, H, T or P, M + T], computed when asked; call it before the operands are disposed. */
  probabilities(): { content: Tensor | null; query: Tensor | null };
}

/** Operands whose gradients the operator gives, in the order of the tape record; the others follow. */
const differentiable = [
  'content',
  'query',
  'key',
  'value',
  'memoryKey',
  'memoryValue',
  'position',
  'contentBias',
  'positionBias',
  'segmentBias',
  'segmentEmbedding',
] as const;
const constant = [
  'queryPositions',
  'segments',
  'queryRanks',
  'keyRanks',
  'mask',
  'keyMask',
  'memoryStarts',
  'memoryHead',
  'headScale',
] as const;
type OperandName = (typeof differentiable)[number] | (typeof constant)[number];
type Operands = Record<OperandName, Tensor | null>;

interface Geometry {
  batch: number;
  length: number;
  memoryLength: number;
  queryLength: number;
  heads: number;
  headDim: number;
}

type StreamName = 'content' | 'query';
/** What the forward pass writes for a stream. */
interface StreamResult {
  output: Tensor;
  logSumExp: Tensor;
}
type Results = Record<StreamName, StreamResult | null>;

/** The block without its buffers. */
interface Call {
  geometry: Geometry;
  numbers: Pick<
    NativePermutationAttention,
    | 'dtype'
    | 'scale'
    | 'positionRows'
    | 'firstDistance'
    | 'reversedFrom'
    | 'bandUpper'
    | 'bandLower'
    | 'bandSegment'
    | 'dropout'
    | 'seed'
  >;
  offsets: Record<StreamName, number>;
}

/**
 * XLNet's attention (Yang et al. 2019, section 2.3 and appendix A.2), both streams in one pass over keys and values:
 * softmax_j(scale ((q + u)·k_j + (q + v)·r_{M+p-j} + (q + s)·e_j)) v_j, without a score matrix in memory. Hidden scores are -1e30, as
 * in the original: a query that sees nothing averages over all keys. Factorization orders are ranks, whose memory is linear.
 * @throws XlformersError ERR_ARG_SHAPE, ERR_ARG_TYPE, ERR_ARG_RANGE naming the operand
 */
export function permutationAttention(options: PermutationAttentionOptions): PermutationAttentionResult {
  const operands = Object.fromEntries(
    [...differentiable, ...constant].map((name) => [name, options[name] ?? null]),
  ) as Operands;
  const geometry = checkOperands(operands);
  const { batch, length, memoryLength, headDim } = geometry;
  const { firstDistance = 0, reversedFrom = batch, scale = headDim ** -0.5, dropout = 0, generator } = options;
  requireInteger('firstDistance', firstDistance, -Number.MAX_SAFE_INTEGER);
  requireInteger('reversedFrom', reversedFrom, 0, batch);
  requireProbability('dropout', dropout);
  const keyLength = memoryLength + length;
  const resolved = resolveBand(options.band ?? { upper: Infinity }, length, keyLength);
  const { position } = operands as { position: Tensor };
  const positionRows = position.shape[0] as number;
  requireDistances(visibleDistances(resolved, length, keyLength), firstDistance, positionRows, geometry, reversedFrom);
  const draw = (present: Tensor | null) =>
    dropout > 0 && present ? drawFor('permutationAttention', generator) : { seed: 0, offset: 0 };
  const draws = { content: draw(operands.content), query: draw(operands.query) };
  const { dtype, device } = options.key;
  const call: Call = {
    geometry,
    numbers: {
      dtype: dtypeDetail(dtype).native,
      scale,
      positionRows,
      firstDistance,
      reversedFrom,
      ...resolved,
      dropout,
      seed: operands.content ? draws.content.seed : draws.query.seed,
    },
    offsets: { content: draws.content.offset, query: draws.query.offset },
  };
  const allocate = (stream: Tensor | null): StreamResult | null => {
    if (!stream) return null;
    const rows = stream.shape[1] as number;
    return {
      output: Tensor.empty(stream.shape, dtype, device),
      logSumExp: Tensor.empty([batch, geometry.heads, rows], statisticsDType(dtype), device),
    };
  };
  const results: Results = { content: allocate(operands.content), query: allocate(operands.query) };
  native.permutationAttention(block(call, operands, results));
  recordGradient(call, operands, results);
  return {
    content: results.content?.output ?? null,
    query: results.query?.output ?? null,
    probabilities: () => probabilities(call, operands, results),
  };
}

function checkOperands(operands: Operands): Geometry {
  const key = operands.key as Tensor;
  requireFloat('key', key);
  requireShape('key', key, [-1, -1, -1, -1]);
  const [batch, length, heads, headDim] = key.shape as [number, number, number, number];
  requireInteger('head size', headDim, 1, 256);
  if (Boolean(operands.memoryKey) !== Boolean(operands.memoryValue)) {
    throw new XlformersError('ERR_ARG_SHAPE', 'memoryKey, memoryValue: got one of the two, expected both or none');
  }
  if (Boolean(operands.queryRanks) !== Boolean(operands.keyRanks)) {
    throw new XlformersError('ERR_ARG_SHAPE', 'queryRanks, keyRanks: got one of the two, expected both or none');
  }
  if (Boolean(operands.segmentEmbedding) !== Boolean(operands.segments)) {
    throw new XlformersError('ERR_ARG_SHAPE', 'segments, segmentEmbedding: got one of the two, expected both or none');
  }
  const memoryLength = operands.memoryKey?.shape[1] ?? 0;
  const queryLength = operands.query?.shape[1] ?? 0;
  const floats: Partial<Record<OperandName, readonly number[]>> = {
    content: [batch, length, heads, headDim],
    query: [batch, -1, heads, headDim],
    value: key.shape,
    memoryKey: [batch, -1, heads, headDim],
    memoryValue: [batch, memoryLength, heads, headDim],
    position: [-1, heads, headDim],
    contentBias: [heads, headDim],
    positionBias: [heads, headDim],
    segmentBias: [heads, headDim],
    segmentEmbedding: [2, heads, headDim],
    headScale: [heads],
  };
  for (const [name, shape] of Object.entries(floats)) {
    const tensor = operands[name as OperandName];
    if (!tensor && name !== 'value' && name !== 'position') continue;
    requireSameKind(name, tensor as Tensor, key);
    requireShape(name, tensor as Tensor, shape);
  }
  const integers: Partial<Record<OperandName, readonly number[]>> = {
    queryPositions: [batch, queryLength],
    segments: [batch, length],
    queryRanks: [batch, length],
    keyRanks: [batch, length],
    memoryStarts: [batch],
    memoryHead: [1],
  };
  for (const [name, shape] of Object.entries(integers)) {
    const tensor = operands[name as OperandName];
    if (!tensor) continue;
    requireIds(name, tensor);
    requireShape(name, tensor, shape);
  }
  if (!operands.queryPositions && queryLength > length) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `query: got ${queryLength} rows without queryPositions, expected at most ${length}`,
    );
  }
  const { mask } = operands;
  if (mask) {
    requireShape('mask', mask, [-1, length, length]);
    if (mask.dtype !== 'uint8') {
      throw new XlformersError('ERR_ARG_TYPE', `mask: got dtype ${mask.dtype}, expected uint8`);
    }
    if (mask.shape[0] !== 1 && mask.shape[0] !== batch) {
      throw new XlformersError('ERR_ARG_SHAPE', `mask: got a batch of ${mask.shape[0]}, expected 1 or ${batch}`);
    }
  }
  if (operands.keyMask) {
    requireShape('keyMask', operands.keyMask, [batch, length]);
    if (operands.keyMask.dtype !== 'uint8') {
      throw new XlformersError('ERR_ARG_TYPE', `keyMask: got dtype ${operands.keyMask.dtype}, expected uint8`);
    }
  }
  return { batch, length, memoryLength, queryLength, heads, headDim };
}

/** Every pair inside the band has a position row, in the reversed sequences too. */
function requireDistances(
  { nearest, farthest }: { nearest: number; farthest: number },
  firstDistance: number,
  positionRows: number,
  { batch, length }: Geometry,
  reversedFrom: number,
): void {
  if (length === 0) return;
  const needed = [];
  if (reversedFrom > 0) needed.push(nearest, farthest);
  if (reversedFrom < batch) needed.push(-nearest, -farthest);
  const lowest = Math.min(...needed);
  const highest = Math.max(...needed);
  if (lowest < firstDistance || highest >= firstDistance + positionRows) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `position: its rows cover distances [${firstDistance}, ${firstDistance + positionRows}), expected [${lowest}, ${highest}]`,
    );
  }
}

function block({ geometry, numbers, offsets }: Call, operands: Operands, results: Results): NativePermutationAttention {
  const { batch, length, memoryLength, heads, headDim } = geometry;
  const width = heads * headDim;
  const stream = (name: StreamName): NativeAttentionStream => {
    const rows = results[name] ? (operands[name]?.shape[1] ?? 0) : 0;
    return {
      length: rows,
      query: operands[name]?.buffer ?? null,
      rowStride: width,
      batchStride: rows * width,
      positions: rows > 0 && name === 'query' ? (operands.queryPositions?.buffer ?? null) : null,
      seesItself: name === 'content',
      offset: offsets[name],
      out: results[name]?.output.buffer ?? null,
      logSumExp: results[name]?.logSumExp.buffer ?? null,
    };
  };
  const rows = (key: Tensor | null, value: Tensor | null, count: number) => ({
    key: key?.buffer ?? null,
    value: value?.buffer ?? null,
    length: count,
    rowStride: width,
    batchStride: count * width,
  });
  const optional = (name: OperandName) => operands[name]?.buffer ?? null;
  return {
    batch,
    heads,
    headDim,
    content: stream('content'),
    query: stream('query'),
    memory: { ringHead: optional('memoryHead'), ...rows(operands.memoryKey, operands.memoryValue, memoryLength) },
    current: rows(operands.key, operands.value, length),
    position: (operands.position as Tensor).buffer,
    positionRowStride: width,
    contentBias: optional('contentBias'),
    positionBias: optional('positionBias'),
    segmentBias: optional('segmentBias'),
    segmentEmbedding: optional('segmentEmbedding'),
    segments: optional('segments'),
    queryRanks: optional('queryRanks'),
    keyRanks: optional('keyRanks'),
    mask: optional('mask'),
    maskBatch: operands.mask?.shape[0] ?? 1,
    keyMask: optional('keyMask'),
    memoryStarts: optional('memoryStarts'),
    headScale: optional('headScale'),
    ...numbers,
  };
}

function probabilities(
  call: Call,
  operands: Operands,
  results: Results,
): { content: Tensor | null; query: Tensor | null } {
  const { batch, heads, memoryLength, length } = call.geometry;
  const make = (name: StreamName): Tensor | null => {
    const tensor = operands[name];
    if (!tensor) return null;
    return Tensor.empty([batch, heads, tensor.shape[1] as number, memoryLength + length], tensor.dtype, tensor.device);
  };
  const made = { content: make('content'), query: make('query') };
  native.permutationAttentionProbabilities({
    forward: block(call, operands, results),
    contentProbabilities: made.content?.buffer ?? null,
    queryProbabilities: made.query?.buffer ?? null,
  });
  return made;
}

function recordGradient(call: Call, operands: Operands, results: Results): void {
  const inputs = differentiable.map((name) => operands[name]);
  if (!needsTape(inputs)) return;
  refuseRing(operands.memoryHead);
  const names = [...differentiable, ...constant].filter((name) => operands[name] !== null);
  const streams = (['content', 'query'] as const).filter((name) => results[name] !== null);
  const result = (name: StreamName) => results[name] as StreamResult;
  record({
    name: 'permutationAttention',
    inputs,
    outputs: streams.map((name) => result(name).output),
    saved: [
      ...names.map((name) => operands[name] as Tensor),
      ...streams.flatMap((name) => [result(name).output, result(name).logSumExp]),
    ],
    gradient: (gradients, { saved }) => {
      const savedOperands = { ...operands };
      names.forEach((name, index) => (savedOperands[name] = saved[index] as Tensor));
      // A stream that no gradient reached takes no part.
      const savedResults: Results = { content: null, query: null };
      const outGradients: Partial<Record<StreamName, Tensor>> = {};
      streams.forEach((name, index) => {
        const gradient = gradients[index];
        if (!gradient) return;
        const at = names.length + 2 * index;
        savedResults[name] = { output: saved[at] as Tensor, logSumExp: saved[at + 1] as Tensor };
        outGradients[name] = gradient;
      });
      return attentionGradient(call, savedOperands, savedResults, outGradients);
    },
  });
}

/** Gradients in the order of `differentiable`. */
function attentionGradient(
  call: Call,
  operands: Operands,
  results: Results,
  outGradients: Partial<Record<StreamName, Tensor>>,
): (Tensor | null)[] {
  const made = Object.fromEntries(
    differentiable.map((name) => {
      const tensor = operands[name];
      const absent = (name === 'content' || name === 'query') && !results[name];
      return [name, tensor && !absent ? Tensor.empty(tensor.shape, tensor.dtype, tensor.device) : null];
    }),
  ) as Record<(typeof differentiable)[number], Tensor | null>;
  const optional = (name: (typeof differentiable)[number]) => made[name]?.buffer ?? null;
  native.permutationAttentionGradient({
    forward: block(call, operands, results),
    contentOutGradient: outGradients.content?.buffer ?? null,
    queryOutGradient: outGradients.query?.buffer ?? null,
    contentGradient: optional('content'),
    queryGradient: optional('query'),
    memoryKeyGradient: optional('memoryKey'),
    memoryValueGradient: optional('memoryValue'),
    currentKeyGradient: (made.key as Tensor).buffer,
    currentValueGradient: (made.value as Tensor).buffer,
    positionGradient: (made.position as Tensor).buffer,
    contentBiasGradient: optional('contentBias'),
    positionBiasGradient: optional('positionBias'),
    segmentBiasGradient: optional('segmentBias'),
    segmentEmbeddingGradient: optional('segmentEmbedding'),
  });
  return differentiable.map((name) => made[name]);
}
