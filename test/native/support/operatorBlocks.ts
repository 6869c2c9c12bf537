/** Parameter blocks that operators share with their gradients. */
import { native } from '../../../lib/native';
import type { Options, Workbench } from './workbench';

export const random = { seed: 3, offset: 1 };

/** B = 2, H = 2, d = 3, T = 4 queries, M = 2 rows of memory, causal. */
export function attention(bench: Workbench): Options {
  const [batch, heads, headDim, queryLength, memoryLength] = [2, 2, 3, 4, 2];
  const width = heads * headDim;
  const rows = (length: number) => ({
    key: bench.floats(batch * length * width),
    value: bench.floats(batch * length * width),
    length,
    rowStride: width,
    batchStride: length * width,
  });
  return {
    dtype: 'f32',
    batch,
    heads,
    headDim,
    queryLength,
    scale: 0.5,
    query: bench.floats(batch * queryLength * width),
    queryRowStride: width,
    queryBatchStride: queryLength * width,
    memory: rows(memoryLength),
    current: rows(queryLength),
    position: bench.floats((memoryLength + queryLength) * width),
    positionRows: memoryLength + queryLength,
    positionRowStride: width,
    firstDistance: 0,
    contentBias: bench.floats(width),
    positionBias: bench.floats(width),
    headScale: bench.floats(heads),
    bandUpper: 0,
    bandLower: -6,
    bandSegment: 1,
    memoryStarts: bench.ids([0, 2]),
    dropout: 0.25,
    ...random,
    out: bench.floats(batch * queryLength * width),
    logSumExp: bench.floats(batch * heads * queryLength),
  };
}

/** B = 2, H = 2, d = 3, T = 4 rows, P = 2 queries, M = 2 rows of memory; the second sequence reversed. */
export function permutation(bench: Workbench): Options {
  const [batch, heads, headDim, length, memoryLength] = [2, 2, 3, 4, 2];
  const width = heads * headDim;
  const rows = (count: number) => ({
    key: bench.floats(batch * count * width),
    value: bench.floats(batch * count * width),
    length: count,
    rowStride: width,
    batchStride: count * width,
  });
  const stream = (count: number, positions: readonly number[] | null) => ({
    query: bench.floats(batch * count * width),
    length: count,
    rowStride: width,
    batchStride: count * width,
    positions: positions && bench.ids(positions),
    seesItself: positions === null,
    offset: 1,
    out: bench.floats(batch * count * width),
    logSumExp: bench.floats(batch * heads * count),
  });
  const mask = bench.bytes(length * length);
  native.upload(mask, Uint8Array.from({ length: length * length }, (_, index) => (index % 5 === 0 ? 1 : 0)));
  return {
    dtype: 'f32',
    batch,
    heads,
    headDim,
    scale: 0.5,
    content: stream(length, null),
    query: stream(2, [3, -1, 0, 0]),
    memory: rows(memoryLength),
    current: rows(length),
    position: bench.floats(11 * width),
    positionRows: 11,
    positionRowStride: width,
    firstDistance: -5,
    reversedFrom: 1,
    contentBias: bench.floats(width),
    positionBias: bench.floats(width),
    segmentBias: bench.floats(width),
    segmentEmbedding: bench.floats(2 * width),
    segments: bench.ids([0, 0, 1, 2, 0, 1, 1, 2]),
    queryRanks: bench.ids([0, 1, 2, 3, 3, 2, 1, 0]),
    keyRanks: bench.ids([0, 1, 2, 3, 3, 2, 1, 0]),
    mask,
    maskBatch: 1,
    keyMask: bench.bytes(batch * length),
    memoryStarts: bench.ids([1, 2]),
    headScale: bench.floats(heads),
    bandUpper: 6,
    bandLower: -6,
    bandSegment: 1,
    dropout: 0.25,
    seed: 3,
  };
}

/** 5 rows, dModel 4; a head of 3 words and tails of 2 and 4, the last without a projection of its own width. */
export function adaptive(bench: Workbench, gradient: boolean): Options {
  const cluster = (firstId: number, size: number, width: number, projected: boolean) => ({
    firstId,
    size,
    width,
    weight: bench.floats(size * width),
    bias: bench.floats(size),
    projection: projected ? bench.floats(4 * width) : null,
    weightGradient: gradient ? bench.floats(size * width) : null,
    biasGradient: gradient ? bench.floats(size) : null,
    projectionGradient: gradient && projected ? bench.floats(4 * width) : null,
  });
  return {
    dtype: 'f32',
    rows: 5,
    dModel: 4,
    reversedClusters: false,
    hidden: bench.floats(20),
    clusterWeight: bench.floats(8),
    clusterBias: bench.floats(2),
    clusters: [cluster(0, 3, 4, true), cluster(3, 2, 2, true), cluster(5, 4, 4, false)],
  };
}
