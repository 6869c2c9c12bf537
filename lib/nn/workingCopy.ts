import { noGrad } from '../autograd';
import type { FloatDType } from '../dtype';
import { cast, recordCast } from '../ops/cast';
import { keep } from '../scope';
import { needsTape, type Parameter, type Tensor } from '../tensor';

/**
 * A weight in the type that the model computes in. In mixed precision operators take a 16-bit copy of the parameter, made once and kept
 * up to date by the optimizer. What stays float32, and why:
 * - the parameter itself, Adam's moments and checkpoints: an update is some thousandths of a weight, which 8 or 11 bits round away;
 * - the gradients at the parameters, so that uses and micro-batches sum up without rounding, and a loss scale can be taken out; products
 *   write and add them so, other operators' gradients are of 16 bits and cast;
 * - losses, their gradients, norms and the statistics of layer norm and softmax, which are sums over many elements; inside operators
 *   every sum is float32, whatever is stored (native/core/operators.h).
 * States, memories, and the copies of layer norms' weights and of biases are of 16 bits: they are rounded once where they are used,
 * as what they meet there is.
 */
export function workingCopy(parameter: Parameter, precision: FloatDType): Tensor {
  if (precision === parameter.dtype) return parameter;
  let copy = parameter.workingCopy;
  if (copy === null || copy.dtype !== precision || copy.version !== parameter.version) {
    copy?.dispose();
    copy = keep(noGrad(() => cast(parameter, precision)));
    copy.version = parameter.version;
    parameter.workingCopy = copy;
  }
  if (!needsTape([parameter])) return copy;
  // The memory serves all passes until the next update; each use is on the tape by itself.
  const use = copy.alias();
  use.version = copy.version;
  recordCast(parameter, use);
  return use;
}

/**
 * The 16-bit copy, for the operator that updates the weight to update with it. Null: none is in use, or it has to be made anew, as it is
 * older than the weight or a tape still needs it.
 */
export function updatableCopy(parameter: Parameter): Tensor | null {
  const copy = parameter.workingCopy;
  return copy !== null && copy.version === parameter.version && copy.exclusive ? copy : null;
}
