import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import type { Generator, GeneratorState } from '../random';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireProbability } from './checks';

export interface DropoutOptions {
  /** Probability of dropping an element, in [0, 1). 0: x is returned under an alias. */
  probability: number;
  /** Where the mask comes from; required when probability > 0. */
  generator?: Generator | null;
  /** Elements after which the mask repeats: rows of a batch share one mask when it is the row's size. Default: it does not. */
  period?: number;
}

/** Each element kept with probability 1 - p and multiplied by 1 / (1 - p), else 0. */
export function dropout(x: Tensor, { probability, generator, period = 0 }: DropoutOptions): Tensor {
  requireFloat('x', x);
  requireProbability('probability', probability);
  if (probability === 0) return needsTape([x]) ? apply(x, 0, { seed: 0, offset: 0 }, 0) : x.alias();
  return apply(x, probability, drawFor('dropout', generator), period);
}

/** @internal The numbers for one call, or an error that says which operator lacks a generator. */
export function drawFor(operator: string, generator: Generator | null | undefined): GeneratorState {
  if (!generator) {
    throw new XlformersError('ERR_ARG_TYPE', `generator: ${operator} with probability > 0 needs a Generator, got none`);
  }
  return generator.next();
}

/** @internal A dropout inside another operator: its probability, and where its mask comes from. */
export interface DropoutNumbers extends GeneratorState {
  dropout: number;
}

/** @internal */
export const noDropout: DropoutNumbers = { dropout: 0, seed: 0, offset: 0 };

/** @internal The numbers for one call of an operator that drops with this probability. */
export function dropoutNumbers(
  operator: string,
  dropout: number,
  generator: Generator | null | undefined,
): DropoutNumbers {
  requireProbability('dropout', dropout);
  return dropout > 0 ? { dropout, ...drawFor(operator, generator) } : noDropout;
}

function apply(x: Tensor, probability: number, draw: GeneratorState, period: number): Tensor {
  const result = Tensor.empty(x.shape, x.dtype, x.device);
  const call = (from: Tensor, to: Tensor) =>
    native.dropout({
      dtype: dtypeDetail(x.dtype).native,
      count: x.size,
      period,
      probability,
      seed: draw.seed,
      offset: draw.offset,
      x: from.buffer,
      out: to.buffer,
    });
  call(x, result);
  if (needsTape([x])) {
    const { dtype, device, shape } = x;
    record({
      name: 'dropout',
      inputs: [x],
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => {
        const xGradient = Tensor.empty(shape, dtype, device);
        native.dropout({
          dtype: dtypeDetail(dtype).native,
          count: xGradient.size,
          period,
          probability,
          seed: draw.seed,
          offset: draw.offset,
          x: (gradient as Tensor).buffer,
          out: xGradient.buffer,
        });
        return [xGradient];
      },
    });
  }
  return result;
}
