import type { Generator } from '../random';
import { type DrawingState, drawingState, sampleAgain, type SampleOptions } from '../ops/sample';
import { gatherRows } from '../ops/shape';
import { keep, scope } from '../scope';
import type { Tensor } from '../tensor';

export type SamplerOptions = Omit<SampleOptions, 'generator'>;

/** One token drawn for a text. */
export interface DrawnToken {
  id: number;
  /** Before temperature and truncation. */
  logProbability: number;
}

/**
 * Draws the next token of each text, from a generator of its own. All of its state is on the device: what was drawn lies where the next
 * step can read it, and a recorded step draws anew at each replay.
 */
export class Sampler {
  private constructor(
    private readonly options: SamplerOptions,
    private readonly state: DrawingState,
  ) {
    for (const tensor of this.tensors()) keep(tensor);
  }

  /**
   * Draws for the first time.
   * @param scores [texts, vocabSize]
   * @param generators where each text's begins
   */
  static first(scores: Tensor, options: SamplerOptions, generators: readonly Generator[]): Sampler {
    const sampler = new Sampler(
      options,
      scope(() => drawingState(scores, options, generators)),
    );
    sampler.draw(scores);
    return sampler;
  }

  /** int32 [texts]: what was drawn last. */
  get ids(): Tensor {
    return this.state.ids;
  }

  /** Enqueues a draw from each row of scores [texts, vocabSize]. */
  draw(scores: Tensor): void {
    sampleAgain(scores, this.options, this.state);
  }

  /** What was drawn last, whatever is enqueued afterwards. */
  async read(): Promise<DrawnToken[]> {
    const { ids, logProbability } = this.state;
    const [drawn, logProbabilities] = await Promise.all([ids.data(), logProbability.data()]);
    return Array.from(drawn, (id, index) => ({ id, logProbability: logProbabilities[index] as number }));
  }

  /** The sampler of some of the texts, in that order. */
  select(texts: readonly number[]): Sampler {
    const { ids, logProbability, streams } = this.state;
    const state = scope(() => ({
      ids: gatherRows(ids, texts),
      logProbability: gatherRows(logProbability, texts),
      streams: streams && gatherRows(streams, texts),
    }));
    return new Sampler(this.options, state);
  }

  dispose(): void {
    for (const tensor of this.tensors()) tensor.dispose();
  }

  private *tensors(): Iterable<Tensor> {
    const { ids, logProbability, streams } = this.state;
    yield ids;
    yield logProbability;
    if (streams) yield streams;
  }
}
