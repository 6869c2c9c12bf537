import { record } from '../autograd';
import { type DType, dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native, type NativeBuffer } from '../native';
import { needsTape, Tensor } from '../tensor';
import type { Generator } from '../random';
import { type Activation, activationGradient, gradientUsesOutput } from './activation';
import { add } from './add';
import { requireFloat, requireInteger, requireSameKind, requireShape, rowsAndColumns } from './checks';
import { dropout, dropoutNumbers, noDropout } from './dropout';

/** A range of rows of a weight. */
export interface RowRange {
  first: number;
  count: number;
}

/** A weight in the backend's own arrangement, for inference with fixed weights. */
export interface PackedWeight {
  readonly tensor: Tensor;
  dispose(): void;
}

/** Where a weight has its input: [out, ...in] as torch's Linear, or [in, ...out] as XLNet's projections. */
export type WeightLayout = 'outIn' | 'inOut';

export interface LinearOptions {
  /** Default 'outIn'. */
  layout?: WeightLayout;
  /** [out], or as many as `rows.count`. */
  bias?: Tensor | null;
  /** Applied to the result in the same pass. Default 'none'. */
  activation?: Activation;
  /** Probability of dropout after the activation, in the same pass, in [0, 1). Default 0. */
  dropout?: number;
  /** Where the mask comes from; required when dropout > 0. */
  generator?: Generator | null;
  /** Added at the end, in the same pass; shape of the result. */
  residual?: Tensor | null;
  /** Uses these rows of the weight only, layout 'outIn': the projection of keys and values alone, say. */
  rows?: RowRange;
  /** What `packWeight` made of the weight (and the same rows); ignored while gradients are recorded. */
  packed?: PackedWeight | null;
}

interface ProductOperand {
  buffer: NativeBuffer;
  stride: number;
  transpose: boolean;
}

/**
 * y = dropout(activation(x Wᵀ + b)) + residual; x W with layout 'inOut'.
 * @param x [..., in]
 * @param weight [out, in]; axes after the first count as one: [dModel, heads, headDim] is dModel x heads headDim
 * @returns [..., out], or [..., rows.count]
 */
export function linear(x: Tensor, weight: Tensor, options: LinearOptions = {}): Tensor {
  const { bias = null, activation = 'none', packed = null, layout = 'outIn', residual = null } = options;
  // Gradients by the output need it before anything is added, tanh's before anything is dropped.
  if (residual && (activation === 'relu' || activation === 'tanh')) {
    return add(linear(x, weight, Object.assign({}, options, { residual: null })), residual);
  }
  if (options.dropout && activation === 'tanh') {
    const { dropout: probability, generator } = options;
    return dropout(linear(x, weight, Object.assign({}, options, { dropout: 0 })), { probability, generator });
  }
  requireFloat('x', x);
  requireSameKind('weight', weight, x);
  const [count, inner] = rowsAndColumns('x', x);
  const range = checkedRange(weight, layout, options.rows);
  if (weightInner(weight, layout) !== inner) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `weight: got shape [${weight.shape.join(', ')}], expected ${layout === 'outIn' ? `[*, ${inner}]` : `[${inner}, *]`}`,
    );
  }
  if (bias) {
    requireSameKind('bias', bias, x);
    requireShape('bias', bias, [range.count]);
  }
  const shape = [...x.shape.slice(0, -1), range.count];
  if (residual) {
    requireSameKind('residual', residual, x);
    requireShape('residual', residual, shape);
  }
  const numbers = dropoutNumbers('linear', options.dropout ?? 0, options.generator);
  const taped = needsTape([x, weight, bias, residual]);
  const result = Tensor.empty(shape, x.dtype, x.device);
  const preActivation = taped && !gradientUsesOutput(activation) ? Tensor.empty(result.shape, x.dtype, x.device) : null;
  withOutputs(weight, layout, range, (rows) => {
    const usePacked = packed !== null && !taped;
    const dtype = dtypeDetail(x.dtype).native;
    native.matrixProduct({
      dtype,
      cDtype: dtype,
      rows: count,
      columns: range.count,
      inner,
      transposeA: false,
      transposeB: !usePacked && layout === 'outIn',
      packedB: usePacked,
      accumulate: false,
      activation,
      ...numbers,
      a: x.buffer,
      aStride: inner,
      b: usePacked ? packed.tensor.buffer : rows,
      bStride: layout === 'outIn' ? inner : range.count,
      bias: bias?.buffer ?? null,
      residual: residual?.buffer ?? null,
      residualStride: residual ? range.count : 0,
      preActivation: preActivation?.buffer ?? null,
      c: result.buffer,
      cStride: range.count,
    });
  });
  if (taped) {
    const operand = activation === 'none' ? [] : [preActivation ?? result];
    record({
      name: 'linear',
      inputs: [x, weight, bias, residual],
      outputs: [result],
      saved: [x, weight, ...operand],
      gradient: ([gradient], context) => {
        const [savedX, savedWeight, savedOperand] = context.saved as [Tensor, Tensor, Tensor | undefined];
        const dy =
          savedOperand || numbers.dropout > 0
            ? activationGradient(gradient as Tensor, savedOperand ?? null, activation, numbers)
            : (gradient as Tensor);
        if (context.wants(0)) {
          const { tensor, accumulate } = context.target(0);
          inputGradient(dy, savedWeight, layout, range, tensor, accumulate);
        }
        if (context.wants(1)) {
          const { tensor, accumulate } = context.wideTarget(1);
          weightGradient(dy, savedX, layout, range, tensor, accumulate);
        }
        if (context.wants(2)) {
          const { tensor, accumulate } = context.target(2);
          columnSum(dy, tensor, accumulate);
        }
        return [null, null, null, context.wants(3) ? (gradient as Tensor) : null];
      },
    });
  }
  return result;
}

/**
 * The weight (or some of its rows) rearranged once for `linear`, while it does not change.
 * @returns null where the backend gains nothing from it.
 */
export function packWeight(weight: Tensor, rows?: RowRange, layout: WeightLayout = 'outIn'): PackedWeight | null {
  requireFloat('weight', weight);
  const range = checkedRange(weight, layout, rows);
  const inner = weightInner(weight, layout);
  const dtype = dtypeDetail(weight.dtype).native;
  const elements = native.packedMatrixElements(weight.device.handle, dtype, range.count, inner);
  if (elements === 0) return null;
  const tensor = Tensor.empty([elements], weight.dtype, weight.device);
  withOutputs(weight, layout, range, (buffer) =>
    native.packMatrix({
      dtype,
      columns: range.count,
      inner,
      transposeB: layout === 'outIn',
      b: buffer,
      bStride: layout === 'outIn' ? inner : range.count,
      packed: tensor.buffer,
    }),
  );
  return { tensor, dispose: () => tensor.dispose() };
}

/** The weight as a matrix [rows, columns]. */
function matrixShape(weight: Tensor): [rows: number, columns: number] {
  const [rows, ...rest] = weight.shape;
  if (rows === undefined || rest.length === 0) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `weight: got shape [${weight.shape.join(', ')}], expected two axes or more`,
    );
  }
  return [rows, rest.reduce((product, size) => product * size, 1)];
}

function weightInner(weight: Tensor, layout: WeightLayout): number {
  const [rows, columns] = matrixShape(weight);
  return layout === 'outIn' ? columns : rows;
}

/** The outputs that a call computes. */
function checkedRange(weight: Tensor, layout: WeightLayout, rows: RowRange | undefined): RowRange {
  const [total, columns] = matrixShape(weight);
  if (layout === 'inOut') {
    if (rows) throw new XlformersError('ERR_ARG_TYPE', "rows: got a range, expected none with layout 'inOut'");
    return { first: 0, count: columns };
  }
  const { first, count } = rows ?? { first: 0, count: total };
  requireInteger('rows.first', first, 0, total);
  requireInteger('rows.count', count, 0, total - first);
  return { first, count };
}

/** Calls `use` with the memory of the weights of these outputs. */
function withOutputs(weight: Tensor, layout: WeightLayout, range: RowRange, use: (buffer: NativeBuffer) => void): void {
  if (layout === 'inOut') use(weight.buffer);
  else withRows(weight, range, use);
}

/** Calls `use` with the memory of these rows of a matrix. */
function withRows(matrix: Tensor, { first, count }: RowRange, use: (buffer: NativeBuffer) => void): void {
  if (first === 0 && count === matrix.shape[0]) {
    use(matrix.buffer);
    return;
  }
  const rowBytes = matrixShape(matrix)[1] * dtypeDetail(matrix.dtype).bytes;
  const view = native.view(matrix.buffer, first * rowBytes, count * rowBytes);
  try {
    use(view);
  } finally {
    native.release(view);
  }
}

interface PlainProduct {
  rows: number;
  columns: number;
  inner: number;
  a: ProductOperand;
  b: ProductOperand;
  c: NativeBuffer;
  /** Of c. */
  dtype: DType;
  accumulate: boolean;
}

function plainProduct(like: Tensor, { rows, columns, inner, a, b, c, dtype, accumulate }: PlainProduct): void {
  native.matrixProduct({
    dtype: dtypeDetail(like.dtype).native,
    cDtype: dtypeDetail(dtype).native,
    rows,
    columns,
    inner,
    transposeA: a.transpose,
    transposeB: b.transpose,
    packedB: false,
    accumulate,
    activation: 'none',
    ...noDropout,
    a: a.buffer,
    aStride: a.stride,
    b: b.buffer,
    bStride: b.stride,
    bias: null,
    residual: null,
    residualStride: 0,
    preActivation: null,
    c,
    cStride: columns,
  });
}

/** dX (+)= dY W, dY Wᵀ with layout 'inOut' */
function inputGradient(
  dy: Tensor,
  weight: Tensor,
  layout: WeightLayout,
  range: RowRange,
  target: Tensor,
  accumulate: boolean,
): void {
  const [count, outer] = rowsAndColumns('gradient', dy);
  const inner = weightInner(weight, layout);
  withOutputs(weight, layout, range, (rows) =>
    plainProduct(dy, {
      rows: count,
      columns: inner,
      inner: outer,
      a: { buffer: dy.buffer, stride: outer, transpose: false },
      b: { buffer: rows, stride: layout === 'outIn' ? inner : outer, transpose: layout === 'inOut' },
      c: target.buffer,
      dtype: target.dtype,
      accumulate,
    }),
  );
}

/** dW[range] (+)= dYᵀ X, Xᵀ dY with layout 'inOut', in the target's type; rows outside the range get zero when there was no gradient yet. */
function weightGradient(
  dy: Tensor,
  x: Tensor,
  layout: WeightLayout,
  range: RowRange,
  target: Tensor,
  accumulate: boolean,
): void {
  const [count, outer] = rowsAndColumns('gradient', dy);
  const [, inner] = rowsAndColumns('x', x);
  if (layout === 'inOut') {
    plainProduct(dy, {
      rows: inner,
      columns: outer,
      inner: count,
      a: { buffer: x.buffer, stride: inner, transpose: true },
      b: { buffer: dy.buffer, stride: outer, transpose: false },
      c: target.buffer,
      dtype: target.dtype,
      accumulate,
    });
    return;
  }
  const whole = range.count === target.shape[0];
  if (!accumulate && !whole) {
    native.fill({ dtype: dtypeDetail(target.dtype).native, count: target.size, value: 0, out: target.buffer });
  }
  withRows(target, range, (rows) =>
    plainProduct(dy, {
      rows: outer,
      columns: inner,
      inner: count,
      a: { buffer: dy.buffer, stride: outer, transpose: true },
      b: { buffer: x.buffer, stride: inner, transpose: false },
      c: rows,
      dtype: target.dtype,
      accumulate: accumulate || !whole,
    }),
  );
}

function columnSum(dy: Tensor, target: Tensor, accumulate: boolean): void {
  const [rows, columns] = rowsAndColumns('gradient', dy);
  native.columnSum({
    dtype: dtypeDetail(dy.dtype).native,
    rows,
    columns,
    accumulate,
    x: dy.buffer,
    xStride: columns,
    out: target.buffer,
  });
}
