import { native, type NativeBuffer, type NativeDevice, type NativeOperators } from '../../../lib/native';

export type OperatorName = keyof NativeOperators;

export type Options = Record<string, unknown>;

/** Allocates buffers of exactly the bytes asked for, so that one element more is one too many. */
export class Workbench {
  readonly device: NativeDevice = native.openDevice('cpu', 0);
  private readonly buffers: NativeBuffer[] = [];

  bytes(count: number): NativeBuffer {
    const buffer = native.allocate(this.device, count);
    this.buffers.push(buffer);
    return buffer;
  }

  /** float32, filled with values in (0, 1]. */
  floats(count: number): NativeBuffer {
    const buffer = this.bytes(4 * count);
    native.upload(buffer, Float32Array.from({ length: count }, (_, index) => 1 / (1 + (index % 7))));
    return buffer;
  }

  ids(values: readonly number[]): NativeBuffer {
    const buffer = this.bytes(4 * values.length);
    native.upload(buffer, Int32Array.from(values));
    return buffer;
  }

  async read(buffer: NativeBuffer, count: number): Promise<Float32Array> {
    const target = new ArrayBuffer(4 * count);
    await native.read(buffer, target);
    return new Float32Array(target);
  }

  releaseAll(): void {
    for (const buffer of this.buffers.splice(0)) native.release(buffer);
  }
}

const random = { seed: 3, offset: 1 };

/** B = 2, H = 2, d = 3, T = 4 queries, M = 2 rows of memory, causal. */
function attention(bench: Workbench): Options {
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
function permutation(bench: Workbench): Options {
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
function adaptive(bench: Workbench, gradient: boolean): Options {
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

/** For every operator a call that is right, with all optional operands. */
export const operatorCalls: Record<OperatorName, (bench: Workbench) => Options> = {
  fill: (bench) => ({ dtype: 'f32', count: 6, value: 1.5, out: bench.floats(6) }),
  permute: (bench) => ({
    dtype: 'f32',
    size: [1, 2, 3, 4],
    order: [0, 3, 1, 2],
    in: bench.floats(24),
    out: bench.floats(24),
  }),
  copyStrided: (bench) => ({
    dtype: 'f32',
    outer: 2,
    rows: 3,
    columns: 4,
    in: bench.floats(24),
    inOuterStride: 12,
    inRowStride: 4,
    out: bench.floats(29),
    outOuterStride: 15,
    outRowStride: 5,
  }),
  randomFill: (bench) => ({ dtype: 'f32', kind: 'normal', count: 7, a: 0, b: 1, ...random, out: bench.floats(7) }),
  add: (bench) => ({
    dtype: 'f32',
    count: 5,
    alpha: 1,
    beta: -1,
    x: bench.floats(5),
    y: bench.floats(5),
    out: bench.floats(5),
  }),
  dropout: (bench) => ({
    dtype: 'f32',
    count: 8,
    period: 4,
    probability: 0.5,
    ...random,
    x: bench.floats(8),
    out: bench.floats(8),
  }),
  activation: (bench) => ({ dtype: 'f32', activation: 'gelu', count: 9, x: bench.floats(9), out: bench.floats(9) }),
  activationGradient: (bench) => ({
    dtype: 'f32',
    activation: 'silu',
    count: 9,
    dropout: 0.25,
    ...random,
    x: bench.floats(9),
    outGradient: bench.floats(9),
    xGradient: bench.floats(9),
  }),
  matrixProduct: (bench) => ({
    dtype: 'f32',
    cDtype: 'f32',
    rows: 3,
    columns: 4,
    inner: 5,
    transposeA: false,
    transposeB: true,
    packedB: false,
    accumulate: false,
    activation: 'relu',
    dropout: 0.25,
    ...random,
    a: bench.floats(15),
    aStride: 5,
    b: bench.floats(20),
    bStride: 5,
    bias: bench.floats(4),
    residual: bench.floats(12),
    residualStride: 4,
    preActivation: bench.floats(12),
    c: bench.floats(12),
    cStride: 4,
  }),
  packMatrix: (bench) => ({
    dtype: 'f32',
    columns: 64,
    inner: 32,
    transposeB: true,
    b: bench.floats(64 * 32),
    bStride: 32,
    packed: bench.floats(native.packedMatrixElements(bench.device, 'f32', 64, 32)),
  }),
  columnSum: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 4,
    accumulate: true,
    x: bench.floats(14),
    xStride: 5,
    out: bench.floats(4),
  }),
  layerNorm: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 8,
    epsilon: 1e-5,
    dropout: 0.1,
    ...random,
    x: bench.floats(24),
    residual: bench.floats(24),
    weight: bench.floats(8),
    bias: bench.floats(8),
    sum: bench.floats(24),
    mean: bench.floats(3),
    rstd: bench.floats(3),
    y: bench.floats(24),
  }),
  layerNormGradient: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 8,
    dropout: 0.1,
    ...random,
    sum: bench.floats(24),
    mean: bench.floats(3),
    rstd: bench.floats(3),
    weight: bench.floats(8),
    yGradient: bench.floats(24),
    xGradient: bench.floats(24),
    residualGradient: bench.floats(24),
    weightGradient: bench.floats(8),
    biasGradient: bench.floats(8),
  }),
  embedding: (bench) => ({
    dtype: 'f32',
    count: 3,
    tableRows: 5,
    columns: 4,
    firstId: 0,
    partial: false,
    accumulate: false,
    scale: 2,
    ids: bench.ids([0, 4, 2]),
    table: bench.floats(20),
    out: bench.floats(12),
  }),
  embeddingGradient: (bench) => ({
    dtype: 'f32',
    count: 3,
    tableRows: 5,
    columns: 4,
    firstId: 0,
    partial: true,
    accumulate: false,
    scale: 2,
    ids: bench.ids([0, 4, 2]),
    outGradient: bench.floats(12),
    tableGradient: bench.floats(20),
  }),
  sinusoidPositions: (bench) => ({
    dtype: 'f32',
    count: 3,
    columns: 6,
    firstDistance: -1,
    clamp: 2,
    out: bench.floats(18),
  }),
  relativeAttention: attention,
  relativeAttentionGradient: (bench) => ({
    forward: attention(bench),
    outGradient: bench.floats(48),
    queryGradient: bench.floats(48),
    memoryKeyGradient: bench.floats(24),
    memoryValueGradient: bench.floats(24),
    currentKeyGradient: bench.floats(48),
    currentValueGradient: bench.floats(48),
    positionGradient: bench.floats(36),
    contentBiasGradient: bench.floats(6),
    positionBiasGradient: bench.floats(6),
  }),
  relativeAttentionProbabilities: (bench) => ({ forward: attention(bench), probabilities: bench.floats(96) }),
  memoryUpdate: (bench) => ({
    dtype: 'f32',
    batch: 2,
    columns: 4,
    oldRows: bench.floats(24),
    oldLength: 3,
    oldRowStride: 4,
    oldBatchStride: 12,
    currentRows: bench.floats(16),
    currentLength: 2,
    currentRowStride: 4,
    currentBatchStride: 8,
    out: bench.floats(32),
    outLength: 4,
  }),
  ringAppend: (bench) => ({
    dtype: 'f32',
    batch: 2,
    count: 2,
    length: 3,
    rings: [4, 1].map((columns) => ({
      columns,
      rows: bench.floats(4 * columns),
      rowStride: columns,
      batchStride: 2 * columns,
      ring: bench.floats(6 * columns),
    })),
    head: bench.ids([2]),
    advance: true,
  }),
  adaptiveSoftmaxLoss: (bench) => ({
    ...adaptive(bench, false),
    labels: bench.ids([0, 4, 8, -100, 2]),
    loss: bench.floats(5),
  }),
  adaptiveSoftmaxLossGradient: (bench) => ({
    ...adaptive(bench, true),
    labels: bench.ids([0, 4, 8, -100, 2]),
    lossGradient: bench.floats(5),
    hiddenGradient: bench.floats(20),
    clusterWeightGradient: bench.floats(8),
    clusterBiasGradient: bench.floats(2),
  }),
  adaptiveLogSoftmax: (bench) => ({ ...adaptive(bench, false), logProbabilities: bench.floats(45) }),
  softmaxCrossEntropy: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 5,
    logits: bench.floats(15),
    labels: bench.ids([4, -100, 0]),
    logSumExp: bench.floats(3),
    loss: bench.floats(3),
  }),
  softmaxCrossEntropyGradient: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 5,
    logits: bench.floats(15),
    labels: bench.ids([4, -100, 0]),
    logSumExp: bench.floats(3),
    lossGradient: bench.floats(3),
    logitsGradient: bench.floats(15),
  }),
  meanNonzero: (bench) => ({
    dtype: 'f32',
    count: 5,
    x: bench.floats(5),
    labels: bench.ids([1, -100, 0, 3, 2]),
    out: bench.floats(2),
  }),
  meanNonzeroGradient: (bench) => ({
    dtype: 'f32',
    count: 5,
    x: bench.floats(5),
    out: bench.floats(2),
    outGradient: bench.floats(1),
    xGradient: bench.floats(5),
  }),
  squaredError: elementLoss,
  squaredErrorGradient: elementLossGradient,
  binaryCrossEntropy: elementLoss,
  binaryCrossEntropyGradient: elementLossGradient,
  globalNorm: (bench) => ({
    dtype: 'f32',
    maxNorm: 1,
    scale: 1,
    out: bench.floats(3),
    tensors: [
      { values: bench.floats(4), count: 4 },
      { values: bench.floats(7), count: 7 },
    ],
  }),
  adam: (bench) => ({
    dtype: 'f32',
    copyDtype: 'bf16',
    learningRate: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    step: 1,
    decoupled: true,
    clip: bench.floats(3),
    tensors: [4, 7].map((count) => ({
      parameter: bench.floats(count),
      gradient: bench.floats(count),
      firstMoment: bench.floats(count),
      secondMoment: bench.floats(count),
      copy: bench.bytes(2 * count),
      count,
      weightDecay: 0.01,
    })),
  }),
  binaryMask: (bench) => ({ dtype: 'f32', count: 5, inverted: true, x: bench.floats(5), out: bench.bytes(5) }),
  maskedFill: (bench) => ({
    dtype: 'f32',
    count: 5,
    value: -1e30,
    x: bench.floats(5),
    mask: bench.bytes(5),
    out: bench.floats(5),
  }),
  cast: (bench) => ({
    dtype: 'f32',
    outDtype: 'f32',
    count: 6,
    accumulate: true,
    x: bench.floats(6),
    out: bench.floats(6),
  }),
  topProbabilities: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 5,
    k: 2,
    scores: bench.floats(15),
    probabilities: bench.floats(15),
    top: bench.floats(6),
    indices: bench.ids([0, 0, 0, 0, 0, 0]),
  }),
  permutationAttention: permutation,
  permutationAttentionGradient: (bench) => ({
    forward: permutation(bench),
    contentOutGradient: bench.floats(48),
    queryOutGradient: bench.floats(24),
    contentGradient: bench.floats(48),
    queryGradient: bench.floats(24),
    memoryKeyGradient: bench.floats(24),
    memoryValueGradient: bench.floats(24),
    currentKeyGradient: bench.floats(48),
    currentValueGradient: bench.floats(48),
    positionGradient: bench.floats(66),
    contentBiasGradient: bench.floats(6),
    positionBiasGradient: bench.floats(6),
    segmentBiasGradient: bench.floats(6),
    segmentEmbeddingGradient: bench.floats(12),
  }),
  permutationAttentionProbabilities: (bench) => ({
    forward: permutation(bench),
    contentProbabilities: bench.floats(96),
    queryProbabilities: bench.floats(48),
  }),
  sample: (bench) => ({
    dtype: 'f32',
    rows: 3,
    columns: 6,
    temperature: 0.8,
    topK: 4,
    topP: 0.9,
    ...random,
    streams: bench.ids(new Array<number>(12).fill(3)),
    scores: bench.floats(18),
    ids: bench.ids([0, 0, 0]),
    logProbability: bench.floats(3),
  }),
};

function elementLoss(bench: Workbench): Options {
  return { dtype: 'f32', count: 5, x: bench.floats(5), target: bench.floats(5), loss: bench.floats(5) };
}

function elementLossGradient(bench: Workbench): Options {
  return {
    dtype: 'f32',
    count: 5,
    x: bench.floats(5),
    target: bench.floats(5),
    lossGradient: bench.floats(5),
    xGradient: bench.floats(5),
  };
}

/** Calls without the compiler's checks. */
export function call(name: OperatorName, options: unknown): void {
  (native[name] as (given: unknown) => void)(options);
}

/** The code of the XlformersError that `action` throws, or null when it throws none. */
export function codeOf(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if ((error as Error).name !== 'XlformersError') throw error;
    return (error as { code: string }).code;
  }
}
