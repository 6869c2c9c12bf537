import { record } from '../autograd';
import { dtypeDetail, isFloat } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireInteger, requireSameKind, requireShape, requireTensor } from './checks';

/** The same elements under another shape; shares memory. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  requireTensor('x', x);
  const result = x.alias(shape);
  if (needsTape([x])) {
    const original = x.shape;
    record({
      name: 'reshape',
      inputs: [x],
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => [reshape(gradient as Tensor, original)],
    });
  }
  return result;
}

/**
 * Axes in another order: axis k of the result is axis `order[k]` of x.
 * @param x at most 4 axes
 */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  requireTensor('x', x);
  const rank = x.shape.length;
  if (rank > 4 || [...order].sort().join() !== x.shape.map((_, axis) => axis).join()) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `order: got [${order.join(', ')}], expected each axis of shape [${x.shape.join(', ')}] once (at most 4 axes)`,
    );
  }
  const padding = 4 - rank;
  const lead = Array.from({ length: padding }, (_, axis) => axis);
  const result = Tensor.empty(
    order.map((axis) => x.shape[axis] as number),
    x.dtype,
    x.device,
  );
  native.permute({
    dtype: dtypeDetail(x.dtype).native,
    size: [...lead.map(() => 1), ...x.shape],
    order: [...lead, ...order.map((axis) => axis + padding)],
    in: x.buffer,
    out: result.buffer,
  });
  if (needsTape([x])) {
    const inverse = order.map((_, axis) => order.indexOf(axis));
    record({
      name: 'permute',
      inputs: [x],
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => [permute(gradient as Tensor, inverse)],
    });
  }
  return result;
}

/** A copy of the range [start, end) of one axis. Works for every dtype; differentiable for floats. */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  requireTensor('x', x);
  requireInteger('axis', axis, 0, x.shape.length - 1);
  const length = x.shape[axis] as number;
  requireInteger('start', start, 0, length);
  requireInteger('end', end, start, length);
  const shape = x.shape.map((size, index) => (index === axis ? end - start : size));
  const result = Tensor.empty(shape, x.dtype, x.device);
  const geometry = sliceGeometry(x, axis);
  copyRange(x, result, geometry, { from: start, to: 0, rows: end - start });
  if (isFloat(x.dtype) && needsTape([x])) {
    const { dtype } = x;
    const original = x.shape;
    record({
      name: 'slice',
      inputs: [x],
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => {
        const whole = Tensor.zeros(original, { dtype, device: (gradient as Tensor).device });
        copyRange(gradient as Tensor, whole, geometry, { from: 0, to: start, rows: end - start });
        return [whole];
      },
    });
  }
  return result;
}

interface SliceGeometry {
  axis: number;
  outer: number;
  inner: number;
}

function sliceGeometry(x: Tensor, axis: number): SliceGeometry {
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  return { axis, outer: product(x.shape.slice(0, axis)), inner: product(x.shape.slice(axis + 1)) };
}

/** Copies `rows` entries of the axis, from index `from` of x to index `to` of out. */
function copyRange(
  x: Tensor,
  out: Tensor,
  { axis, outer, inner }: SliceGeometry,
  { from, to, rows }: { from: number; to: number; rows: number },
): void {
  if (outer * rows * inner === 0) return;
  const { bytes, native: dtype } = dtypeDetail(x.dtype);
  const source = native.view(x.buffer, from * inner * bytes, (x.size - from * inner) * bytes);
  const target = native.view(out.buffer, to * inner * bytes, (out.size - to * inner) * bytes);
  native.copyStrided({
    dtype,
    outer,
    rows,
    columns: inner,
    in: source,
    inOuterStride: (x.shape[axis] as number) * inner,
    inRowStride: inner,
    out: target,
    outOuterStride: (out.shape[axis] as number) * inner,
    outRowStride: inner,
  });
  native.release(source);
  native.release(target);
}

/** Tensors one after the other along an axis; the other axes agree. Works for every dtype; differentiable for floats. */
export function concatenate(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors;
  if (first === undefined) throw new XlformersError('ERR_ARG_SHAPE', 'tensors: got none, expected at least one');
  requireInteger('axis', axis, 0, first.shape.length - 1);
  const expected = first.shape.map((size, index) => (index === axis ? -1 : size));
  tensors.forEach((tensor, index) => {
    requireSameKind(`tensors[${index}]`, tensor, first);
    requireShape(`tensors[${index}]`, tensor, expected);
  });
  const lengths = tensors.map(({ shape }) => shape[axis] as number);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const shape = first.shape.map((size, index) => (index === axis ? total : size));
  const result = Tensor.empty(shape, first.dtype, first.device);
  let to = 0;
  tensors.forEach((tensor, index) => {
    const rows = lengths[index] as number;
    copyRange(tensor, result, sliceGeometry(tensor, axis), { from: 0, to, rows });
    to += rows;
  });
  if (isFloat(first.dtype) && needsTape(tensors)) {
    record({
      name: 'concatenate',
      inputs: tensors,
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => {
        let from = 0;
        return lengths.map((length) => slice(gradient as Tensor, axis, from, (from += length)));
      },
    });
  }
  return result;
}

/** Some entries of the first axis, in that order. Works for every dtype. */
export function gatherRows(x: Tensor, rows: readonly number[]): Tensor {
  return concatenate(rows.map((row) => slice(x, 0, row, row + 1)));
}
