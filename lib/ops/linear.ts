import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native, type NativeBuffer } from '../native';
import { needsTape, Tensor } from '../tensor';
import { type Activation, activationGradient, gradientUsesOutput } from './activation';
import { requireFloat, requireInteger, requireSameKind, requireShape, rowsAndColumns } from './checks';

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
  /** Added to the result in the same pass, of its shape; not with an activation. */
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
 * y = activation(x Wᵀ + b), or activation(x W + b) with layout 'inOut'.
 * @param x [..., in]
 * @param weight [out, in]; axes after the first count as one: [dModel, heads, headDim] is dModel x heads headDim
 * @returns [..., out], or [..., rows.count]
 */
export function linear(x: Tensor, weight: Tensor, options: LinearOptions = {}): Tensor {
  const { bias = null, activation = 'none', residual = null, packed = null, layout = 'outIn' } = options;
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
    if (activation !== 'none') {
      throw new XlformersError('ERR_ARG_TYPE', `residual: got one with activation '${activation}', expected none`);
    }
  }
  const taped = needsTape([x, weight, bias, residual]);
  const result = Tensor.empty(shape, x.dtype, x.device);
  const preActivation = taped && !gradientUsesOutput(activation) ? Tensor.empty(result.shape, x.dtype, x.device) : null;
  withOutputs(weight, layout, range, (rows) => {
    const usePacked = packed !== null && !taped;
    native.matrixProduct({
      dtype: dtypeDetail(x.dtype).native,
      rows: count,
      columns: range.count,
      inner,
      transposeA: false,
      transposeB: !usePacked && layout === 'outIn',
      packedB: usePacked,
      accumulate: false,
      activation,
      a: x.buffer,
      aStride: inner,
      b: usePacked ? packed.tensor.buffer : rows,
      bStride: layout === 'outIn' ? inner : range.count,
      bias: bias?.buffer ?? null,
      residual: residual?.buffer ?? null,
      residualStride: range.count,
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
        const dy = savedOperand
          ? activationGradient(gradient as Tensor, savedOperand, activation)
          : (gradient as Tensor);
        const dx = context.wants(0) ? inputGradient(dy, savedWeight, layout, range, savedX.shape) : null;
        if (context.wants(1)) {
          const { tensor, accumulate } = context.target(1);
          weightGradient(dy, savedX, layout, range, tensor, accumulate);
        }
        if (context.wants(2)) {
          const { tensor, accumulate } = context.target(2);
          columnSum(dy, tensor, accumulate);
        }
        return [dx, null, null, context.wants(3) ? (gradient as Tensor).alias() : null];
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
  accumulate: boolean;
}

function plainProduct(like: Tensor, { rows, columns, inner, a, b, c, accumulate }: PlainProduct): void {
  native.matrixProduct({
    dtype: dtypeDetail(like.dtype).native,
    rows,
    columns,
    inner,
    transposeA: a.transpose,
    transposeB: b.transpose,
    packedB: false,
    accumulate,
    activation: 'none',
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

/** dX = dY W, dY Wᵀ with layout 'inOut' */
function inputGradient(
  dy: Tensor,
  weight: Tensor,
  layout: WeightLayout,
  range: RowRange,
  shape: readonly number[],
): Tensor {
  const [count, outer] = rowsAndColumns('gradient', dy);
  const inner = weightInner(weight, layout);
  const dx = Tensor.empty(shape, dy.dtype, dy.device);
  withOutputs(weight, layout, range, (rows) =>
    plainProduct(dy, {
      rows: count,
      columns: inner,
      inner: outer,
      a: { buffer: dy.buffer, stride: outer, transpose: false },
      b: { buffer: rows, stride: layout === 'outIn' ? inner : outer, transpose: layout === 'inOut' },
      c: dx.buffer,
      accumulate: false,
    }),
  );
  return dx;
}

/** dW[range] (+)= dYᵀ X, Xᵀ dY with layout 'inOut'; rows outside the range get zero when there was no gradient yet. */
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
