import { dtypeDetail, statisticsDType } from '../dtype';
import { XlformersError, describe } from '../errors';
import { native } from '../native';
import type { Generator, GeneratorState } from '../random';
import { Tensor } from '../tensor';
import { requireFloat, requireIds, requireInteger, requireSameKind, requireShape } from './checks';

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

/** @internal What a recording can draw with: everything that changes is on the device. */
export interface DrawingState extends Sampled {
  /** int32 [N, 4]: seed and offset of each row, as words, the lower first. Null at temperature 0. */
  streams: Tensor | null;
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
  const rows = checkedRows(scores, options);
  const { temperature = 1, generator } = options;
  if (temperature > 0 && !generator) {
    throw new XlformersError('ERR_ARG_TYPE', 'generator: sampling with temperature > 0 needs a Generator, got none');
  }
  const drawn = emptyDraw(rows, scores);
  const state = generator && temperature > 0 ? generator.next() : { seed: 0, offset: 0 };
  enqueue(scores, options, { streams: null, ...drawn }, state);
  return drawn;
}

/**
 * @internal State for `sampleAgain`, whose first ids are yet to be drawn.
 * @param generators where each row begins; they do not move
 */
export function drawingState(scores: Tensor, options: SampleOptions, generators: readonly Generator[]): DrawingState {
  const rows = checkedRows(scores, options);
  if (generators.length !== rows) {
    throw new XlformersError('ERR_ARG_SHAPE', `generators: got ${generators.length}, expected ${rows}, one a row`);
  }
  const halves = (value: number) => [value % 2 ** 32, Math.floor(value / 2 ** 32)];
  const words = generators
    .map((each) => each.state())
    .flatMap(({ seed, offset }) => [...halves(seed), ...halves(offset)]);
  const stored = () => Tensor.from(Int32Array.from(words), [rows, 4], { device: scores.device });
  return { streams: options.temperature === 0 ? null : stored(), ...emptyDraw(rows, scores) };
}

/**
 * @internal Draws an id from each row into `state`, each from a stream of its own: what `sample` gives for the row alone with a generator
 * of that seed and offset. The offsets count on, so that a recording of this call draws others at each replay.
 */
export function sampleAgain(scores: Tensor, options: SampleOptions, state: DrawingState): void {
  const rows = checkedRows(scores, options);
  const { ids, logProbability, streams } = state;
  requireIds('ids', ids);
  requireShape('ids', ids, [rows]);
  requireSameKind('logProbability', logProbability, { dtype: statisticsDType(scores.dtype), device: scores.device });
  requireShape('logProbability', logProbability, [rows]);
  if (streams) {
    requireIds('streams', streams);
    requireShape('streams', streams, [rows, 4]);
  }
  enqueue(scores, options, state, { seed: 0, offset: 0 });
}

function checkedRows(scores: Tensor, options: SampleOptions): number {
  requireFloat('scores', scores);
  requireShape('scores', scores, [-1, -1]);
  checkSampleOptions(options);
  const [rows, columns] = scores.shape as [number, number];
  requireInteger('scores.shape[1]', columns, 1);
  return rows;
}

function emptyDraw(rows: number, { dtype, device }: Tensor): Sampled {
  return {
    ids: Tensor.empty([rows], 'int32', device),
    logProbability: Tensor.empty([rows], statisticsDType(dtype), device),
  };
}

function enqueue(scores: Tensor, options: SampleOptions, state: DrawingState, { seed, offset }: GeneratorState): void {
  const { temperature = 1, topK = 0, topP = 1 } = options;
  const [rows, columns] = scores.shape as [number, number];
  native.sample({
    dtype: dtypeDetail(scores.dtype).native,
    rows,
    columns,
    temperature,
    topK: Math.min(topK, columns),
    topP,
    seed,
    offset,
    streams: state.streams?.buffer ?? null,
    scores: scores.buffer,
    ids: state.ids.buffer,
    logProbability: state.logProbability.buffer,
  });
}
