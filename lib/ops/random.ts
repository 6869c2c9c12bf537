import { dtypeDetail } from '../dtype';
import { native } from '../native';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
import { requireFloat } from './checks';

/** `normal`: mean a, standard deviation b. `uniform`: [a, b). */
export interface RandomOptions {
  kind: 'normal' | 'uniform';
  a: number;
  b: number;
}

/** Overwrites a tensor with random numbers, the same on every backend. */
export function fillRandom(tensor: Tensor, { kind, a, b }: RandomOptions, generator: Generator): void {
  requireFloat('tensor', tensor);
  native.randomFill({
    dtype: dtypeDetail(tensor.dtype).native,
    kind,
    count: tensor.size,
    a,
    b,
    ...generator.next(),
    out: tensor.buffer,
  });
  tensor.version += 1;
}
