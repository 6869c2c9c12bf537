import { dtypeDetail, statisticsDType } from '../dtype';
import { XlformersError, describe } from '../errors';
import { native } from '../native';
import type { Generator } from '../random';
import { Tensor } from '../tensor';
import { requireFloat, requireInteger, requireShape } from './checks';

export interface SampleOptions {
  /** 0: the most probable id. Default 1. */
  temperature?: number;
  /** Keeps the k best; 0: all. Default 0. */
  topK?: number;
  /** Keeps the smallest set whose probability reaches it, in (0, 1]. Default 1. */
  topP?: number;
  /** Required when temperature > 0. */
  generator?: Generator | null;
}

export interface Sampled {
  /** int32 [N] */
  ids: Tensor;
  /** [N]: log-probability of the drawn id before temperature and truncation. */
  logProbability: Tensor;
}

/** @throws XlformersError ERR_ARG_RANGE naming the option. */
export function checkSampleOptions({ temperature = 1, topK = 0, topP = 1 }: SampleOptions): void {
  if (typeof temperature !== 'number' || !(temperature >= 0 && temperature < Infinity)) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `temperature: got ${describe(temperature)}, expected a finite number >= 0`,
    );
  }
  requireInteger('topK', topK, 0);
  if (typeof topP !== 'number' || !(topP > 0 && topP <= 1)) {
    throw new XlformersError('ERR_ARG_RANGE', `topP: got ${describe(topP)}, expected a number in (0, 1]`);
  }
}

/**
 * Draws an id from each row of scores.
 * @param scores [N, V] logits or log-probabilities
 */
export function sample(scores: Tensor, options: SampleOptions = {}): Sampled {
  requireFloat('scores', scores);
  requireShape('scores', scores, [-1, -1]);
  checkSampleOptions(options);
  const { temperature = 1, topK = 0, topP = 1, generator } = options;
  if (temperature > 0 && !generator) {
    throw new XlformersError('ERR_ARG_TYPE', 'generator: sampling with temperature > 0 needs a Generator, got none');
  }
  const [rows, columns] = scores.shape as [number, number];
  requireInteger('scores.shape[1]', columns, 1);
  const ids = Tensor.empty([rows], 'int32', scores.device);
  const logProbability = Tensor.empty([rows], statisticsDType(scores.dtype), scores.device);
  const { seed, offset } = generator && temperature > 0 ? generator.next() : { seed: 0, offset: 0 };
  native.sample({
    dtype: dtypeDetail(scores.dtype).native,
    rows,
    columns,
    temperature,
    topK: Math.min(topK, columns),
    topP,
    seed,
    offset,
    scores: scores.buffer,
    ids: ids.buffer,
    logProbability: logProbability.buffer,
  });
  return { ids, logProbability };
}
