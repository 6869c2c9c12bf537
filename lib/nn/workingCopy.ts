import { noGrad } from '../autograd';
import type { FloatDType } from '../dtype';
import { cast, recordCast } from '../ops/cast';
import { keep } from '../scope';
import { needsTape, type Parameter, type Tensor } from '../tensor';

/**
 * A weight in the type that the model computes in. In mixed precision the parameter is a float32 master, which the optimizer updates
 * (small updates of a 16-bit weight would be rounded away) and checkpoints hold; operators take a 16-bit copy of it, made once after
 * each update, and its gradient arrives at the parameter as float32, summed over uses and micro-batches in that type.
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
