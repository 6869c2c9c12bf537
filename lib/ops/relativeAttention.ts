import { type GradientContext, record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { XlformersError } from '../errors';
import { native, type NativeBuffer, type NativeRelativeAttention } from '../native';
import type { Generator } from '../random';
import { needsTape, Tensor } from '../tensor';
import { type AttentionBand, refuseRing, resolveBand, visibleDistances } from './attentionBand';
import { requireFloat, requireIds, requireInteger, requireProbability, requireSameKind, requireShape } from './checks';
import { drawFor } from './dropout';

/** What both forms of relative attention share. H heads of size d; T queries; M memory rows. */
export interface RelativeAttentionSettings {
  /** Projected relative positions [P, H, d]: row p belongs to distance firstDistance + p. */
  position: Tensor;
  /** Distance of the first position row. Default 0. */
  firstDistance?: number;
  /** r_w_bias, u in the paper: [H, d]. */
  contentBias?: Tensor | null;
  /** r_r_bias, v in the paper: [H, d]. */
  positionBias?: Tensor | null;
  /** Factor of each head's output [H] (a head mask); no gradient flows to it. */
  headScale?: Tensor | null;
  /** Factor of the scores. Default d^-1/2. */
  scale?: number;
  /** Which keys a query sees. Default: causal. */
  band?: AttentionBand;
  /** int32 [B], in [0, M]: memory rows before it are hidden from that batch row, whose memory is shorter. Default: none. */
  memoryStarts?: Tensor | null;
  /**
   * int32 [1], in [0, M): the memory is a ring, whose row j lies at row (memoryHead + j) mod M; see `ringAppend`. Without gradient only.
   * Default: its rows lie in order.
   */
  memoryHead?: Tensor | null;
  /** Dropout probability on the attention probabilities. Default 0. */
  dropout?: number;
  /** Required when dropout > 0. */
  generator?: Generator | null;
}

export interface RelativeAttentionOptions extends RelativeAttentionSettings {
  /** [B, T, H, d] */
  query: Tensor;
  /** [B, T, H, d] */
  key: Tensor;
  /** [B, T, H, d] */
  value: Tensor;
  /** [B, M, H, d]: keys that precede `key`; read where they lie. */
  memoryKey?: Tensor | null;
  /** [B, M, H, d] */
  memoryValue?: Tensor | null;
}

export interface PackedRelativeAttentionOptions extends RelativeAttentionSettings {
  /** [B, T, 3, H, d]: query, key and value of each row side by side, as one projection makes them. */
  queryKeyValue: Tensor;
  /** [B, M, 2, H, d]: key and value of the memory. */
  memoryKeyValue?: Tensor | null;
}

export interface PackedRelativeAttentionResult {
  /** [B, T, H, d] */
  output: Tensor;
  /** The attention probabilities [B, H, T, M + T], computed when asked; call it before the operands are disposed. */
  probabilities(): Tensor;
}

/**
 * Fused Transformer-XL attention (Dai et al. 2019, section 3.3):
 * softmax_j(scale ((q_i + u)·k_j + (q_i + v)·r_{M+i-j})) v_j, without a score matrix in memory.
 * @returns [B, T, H, d]
 */
export function relativeAttention(options: RelativeAttentionOptions): Tensor {
  const { query, key, value, memoryKey = null, memoryValue = null } = options;
  requireFloat('query', query);
  requireShape('query', query, [-1, -1, -1, -1]);
  const [batch, queryLength, heads, headDim] = query.shape as [number, number, number, number];
  for (const [name, tensor] of [
    ['key', key],
    ['value', value],
  ] as const) {
    requireSameKind(name, tensor, query);
    requireShape(name, tensor, query.shape);
  }
  if (Boolean(memoryKey) !== Boolean(memoryValue)) {
    throw new XlformersError('ERR_ARG_SHAPE', 'memoryKey, memoryValue: got one of the two, expected both or none');
  }
  const memoryLength = memoryKey?.shape[1] ?? 0;
  for (const [name, tensor] of [
    ['memoryKey', memoryKey],
    ['memoryValue', memoryValue],
  ] as const) {
    if (!tensor) continue;
    requireSameKind(name, tensor, query);
    requireShape(name, tensor, [batch, memoryLength, heads, headDim]);
  }
  const width = heads * headDim;
  const whole = (tensor: Tensor, length: number): Rows => ({
    tensor,
    column: 0,
    rowStride: width,
    batchStride: length * width,
  });
  return run(
    { batch, queryLength, memoryLength, heads, headDim },
    {
      query: whole(query, queryLength),
      key: whole(key, queryLength),
      value: whole(value, queryLength),
      memoryKey: memoryKey && whole(memoryKey, memoryLength),
      memoryValue: memoryValue && whole(memoryValue, memoryLength),
    },
    options,
  ).output;
}

/** `relativeAttention` on packed projections: one matrix product makes them, and one receives their gradient. */
export function packedRelativeAttention(options: PackedRelativeAttentionOptions): PackedRelativeAttentionResult {
  const { queryKeyValue, memoryKeyValue = null } = options;
  requireFloat('queryKeyValue', queryKeyValue);
  requireShape('queryKeyValue', queryKeyValue, [-1, -1, 3, -1, -1]);
  const [batch, queryLength, , heads, headDim] = queryKeyValue.shape as [number, number, number, number, number];
  const memoryLength = memoryKeyValue?.shape[1] ?? 0;
  if (memoryKeyValue) {
    requireSameKind('memoryKeyValue', memoryKeyValue, queryKeyValue);
    requireShape('memoryKeyValue', memoryKeyValue, [batch, memoryLength, 2, heads, headDim]);
  }
  const width = heads * headDim;
  const columns = (tensor: Tensor, parts: number, part: number, length: number): Rows => ({
    tensor,
    column: part * width,
    rowStride: parts * width,
    batchStride: length * parts * width,
  });
  return run(
    { batch, queryLength, memoryLength, heads, headDim },
    {
      query: columns(queryKeyValue, 3, 0, queryLength),
      key: columns(queryKeyValue, 3, 1, queryLength),
      value: columns(queryKeyValue, 3, 2, queryLength),
      memoryKey: memoryKeyValue && columns(memoryKeyValue, 2, 0, memoryLength),
      memoryValue: memoryKeyValue && columns(memoryKeyValue, 2, 1, memoryLength),
    },
    options,
  );
}

interface Geometry {
  batch: number;
  queryLength: number;
  memoryLength: number;
  heads: number;
  headDim: number;
}

/** Rows of one operand inside a tensor that may hold others beside it. */
interface Rows {
  tensor: Tensor;
  /** Elements before the operand in a row. */
  column: number;
  rowStride: number;
  batchStride: number;
}

interface Operands {
  query: Rows;
  key: Rows;
  value: Rows;
  memoryKey: Rows | null;
  memoryValue: Rows | null;
}

type Call = Omit<NativeRelativeAttention, 'query' | 'memory' | 'current' | 'out' | 'logSumExp' | keyof SharedOperands>;

function run(
  geometry: Geometry,
  operands: Operands,
  settings: RelativeAttentionSettings,
): PackedRelativeAttentionResult {
  const { batch, queryLength, memoryLength, heads, headDim } = geometry;
  const { position, contentBias = null, positionBias = null, headScale = null, memoryStarts = null } = settings;
  const { memoryHead = null } = settings;
  const { firstDistance = 0, scale = headDim ** -0.5, band = {}, dropout = 0, generator } = settings;
  requireInteger('firstDistance', firstDistance, -Number.MAX_SAFE_INTEGER);
  const { query } = operands;
  requireInteger('head size', headDim, 1, 256);
  requireSameKind('position', position, query.tensor);
  requireShape('position', position, [-1, heads, headDim]);
  for (const [name, bias] of [
    ['contentBias', contentBias],
    ['positionBias', positionBias],
  ] as const) {
    if (!bias) continue;
    requireSameKind(name, bias, query.tensor);
    requireShape(name, bias, [heads, headDim]);
  }
  if (headScale) {
    requireSameKind('headScale', headScale, query.tensor);
    requireShape('headScale', headScale, [heads]);
  }
  if (memoryStarts) {
    requireIds('memoryStarts', memoryStarts);
    requireShape('memoryStarts', memoryStarts, [batch]);
  }
  if (memoryHead) {
    requireIds('memoryHead', memoryHead);
    requireShape('memoryHead', memoryHead, [1]);
  }
  requireProbability('dropout', dropout);
  const keyLength = memoryLength + queryLength;
  const resolved = resolveBand(band, queryLength, keyLength);
  const positionRows = position.shape[0] as number;
  const { nearest, farthest } = visibleDistances(resolved, queryLength, keyLength);
  if (queryLength > 0 && (nearest < firstDistance || farthest >= firstDistance + positionRows)) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `position: its rows cover distances [${firstDistance}, ${firstDistance + positionRows}), expected [${nearest}, ${farthest}]`,
    );
  }
  const { seed, offset } = dropout > 0 ? drawFor('relativeAttention', generator) : { seed: 0, offset: 0 };
  const { dtype, device } = query.tensor;
  const call: Call = {
    dtype: dtypeDetail(dtype).native,
    batch,
    heads,
    headDim,
    queryLength,
    scale,
    queryRowStride: query.rowStride,
    queryBatchStride: query.batchStride,
    positionRows,
    positionRowStride: heads * headDim,
    firstDistance,
    ...resolved,
    dropout,
    seed,
    offset,
  };
  const output = Tensor.empty([batch, queryLength, heads, headDim], dtype, device);
  const logSumExp = Tensor.empty([batch, heads, queryLength], statisticsDType(dtype), device);
  const shared = { position, contentBias, positionBias, headScale, memoryStarts, memoryHead };
  withForward(call, geometry, operands, shared, output, logSumExp, (forward) => native.relativeAttention(forward));

  const tensors = distinctTensors(operands);
  const inputs = [...tensors, position, contentBias, positionBias];
  if (needsTape(inputs)) {
    refuseRing(memoryHead);
    const optional = [contentBias, positionBias, headScale, memoryStarts].filter((tensor) => tensor !== null);
    record({
      name: 'relativeAttention',
      inputs,
      outputs: [output],
      saved: [...tensors, position, ...optional, output, logSumExp],
      gradient: ([gradient], context) => {
        const saved = [...context.saved];
        const savedTensors = tensors.map(() => saved.shift() as Tensor);
        const savedPosition = saved.shift() as Tensor;
        const take = (present: Tensor | null) => (present ? (saved.shift() as Tensor) : null);
        const savedShared = {
          position: savedPosition,
          contentBias: take(contentBias),
          positionBias: take(positionBias),
          headScale: take(headScale),
          memoryStarts: take(memoryStarts),
          memoryHead: null,
        };
        const [savedOutput, savedLogSumExp] = saved as [Tensor, Tensor];
        const savedOperands = mapTensors(operands, (tensor) => savedTensors[tensors.indexOf(tensor)] as Tensor);
        return attentionGradient({
          call,
          geometry,
          operands: savedOperands,
          tensors: savedTensors,
          shared: savedShared,
          output: savedOutput,
          logSumExp: savedLogSumExp,
          gradient: gradient as Tensor,
          context,
        });
      },
    });
  }
  return {
    output,
    probabilities: () => {
      const probabilities = Tensor.empty([batch, heads, queryLength, keyLength], dtype, device);
      withForward(call, geometry, operands, shared, output, logSumExp, (forward) =>
        native.relativeAttentionProbabilities({ forward, probabilities: probabilities.buffer }),
      );
      return probabilities;
    },
  };
}

/** Operands of their own tensors, the same for all queries. */
interface SharedOperands {
  position: Tensor;
  contentBias: Tensor | null;
  positionBias: Tensor | null;
  headScale: Tensor | null;
  memoryStarts: Tensor | null;
  memoryHead: Tensor | null;
}

/** Builds the native block with views of the operands that live as long as `use` runs. */
function withForward(
  call: Call,
  { queryLength, memoryLength }: Geometry,
  operands: Operands,
  { position, contentBias, positionBias, headScale, memoryStarts, memoryHead }: SharedOperands,
  output: Tensor,
  logSumExp: Tensor,
  use: (forward: NativeRelativeAttention) => void,
): void {
  withViews(operands, (views) =>
    use({
      query: views.query as NativeBuffer,
      memory: {
        key: views.memoryKey,
        value: views.memoryValue,
        length: memoryLength,
        rowStride: operands.memoryKey?.rowStride ?? operands.key.rowStride,
        batchStride: operands.memoryKey?.batchStride ?? 0,
        ringHead: memoryHead?.buffer ?? null,
      },
      current: {
        key: views.key,
        value: views.value,
        length: queryLength,
        rowStride: operands.key.rowStride,
        batchStride: operands.key.batchStride,
      },
      position: position.buffer,
      contentBias: contentBias?.buffer ?? null,
      positionBias: positionBias?.buffer ?? null,
      headScale: headScale?.buffer ?? null,
      memoryStarts: memoryStarts?.buffer ?? null,
      out: output.buffer,
      logSumExp: logSumExp.buffer,
      ...call,
    }),
  );
}

interface GradientCall {
  call: Call;
  geometry: Geometry;
  operands: Operands;
  tensors: Tensor[];
  shared: SharedOperands;
  output: Tensor;
  logSumExp: Tensor;
  gradient: Tensor;
  context: GradientContext;
}

/** Gradients of the distinct operand tensors, the positions and the biases, in the order of the record's inputs. */
function attentionGradient(request: GradientCall): (Tensor | null)[] {
  const { call, geometry, operands, tensors, shared, output, logSumExp, gradient } = request;
  const like = (tensor: Tensor) => Tensor.empty(tensor.shape, tensor.dtype, tensor.device);
  const tensorGradients = tensors.map(like);
  const gradientOperands = mapTensors(operands, (tensor) => tensorGradients[tensors.indexOf(tensor)] as Tensor);
  const positionGradient = like(shared.position);
  const contentBiasGradient = shared.contentBias && like(shared.contentBias);
  const positionBiasGradient = shared.positionBias && like(shared.positionBias);
  withForward(call, geometry, operands, shared, output, logSumExp, (forward) =>
    withViews(gradientOperands, (views) =>
      native.relativeAttentionGradient({
        forward,
        outGradient: gradient.buffer,
        queryGradient: views.query as NativeBuffer,
        memoryKeyGradient: views.memoryKey,
        memoryValueGradient: views.memoryValue,
        currentKeyGradient: views.key as NativeBuffer,
        currentValueGradient: views.value as NativeBuffer,
        positionGradient: positionGradient.buffer,
        contentBiasGradient: contentBiasGradient?.buffer ?? null,
        positionBiasGradient: positionBiasGradient?.buffer ?? null,
      }),
    ),
  );
  return [...tensorGradients, positionGradient, contentBiasGradient, positionBiasGradient];
}

const operandNames = ['query', 'key', 'value', 'memoryKey', 'memoryValue'] as const;

function distinctTensors(operands: Operands): Tensor[] {
  return [...new Set(operandNames.flatMap((name) => operands[name]?.tensor ?? []))];
}

function mapTensors(operands: Operands, map: (tensor: Tensor) => Tensor): Operands {
  const mapped = (rows: Rows): Rows => Object.assign({}, rows, { tensor: map(rows.tensor) });
  return {
    query: mapped(operands.query),
    key: mapped(operands.key),
    value: mapped(operands.value),
    memoryKey: operands.memoryKey && mapped(operands.memoryKey),
    memoryValue: operands.memoryValue && mapped(operands.memoryValue),
  };
}

/** Views that start at each operand's first element. */
function withViews(
  operands: Operands,
  use: (views: Record<(typeof operandNames)[number], NativeBuffer | null>) => void,
): void {
  const views: Record<string, NativeBuffer | null> = {};
  try {
    for (const name of operandNames) {
      const rows = operands[name];
      if (!rows) {
        views[name] = null;
        continue;
      }
      const { bytes } = dtypeDetail(rows.tensor.dtype);
      const first = Math.min(rows.column, rows.tensor.size);
      views[name] = native.view(rows.tensor.buffer, first * bytes, (rows.tensor.size - first) * bytes);
    }
    use(views as Record<(typeof operandNames)[number], NativeBuffer | null>);
  } finally {
    for (const view of Object.values(views)) if (view) native.release(view);
  }
}
