import { XlformersError, describe } from './errors';
import { refuseWhileRecording } from './record';

/** Where a generator stands; two numbers are all that resuming needs. */
export interface GeneratorState {
  seed: number;
  offset: number;
}

/**
 * The source of all randomness: Philox4x32-10 is a function of (seed, offset, element), so a generator is a counter. Every random
 * operator call takes one offset; the same seed gives the same numbers on every backend.
 */
export class Generator {
  private offset: number;

  /** @param seed integer in [0, 2^53). */
  constructor(
    readonly seed: number,
    offset = 0,
  ) {
    for (const [name, value] of [
      ['seed', seed],
      ['offset', offset],
    ] as const) {
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new XlformersError('ERR_ARG_RANGE', `${name}: got ${describe(value)}, expected an integer in [0, 2^53)`);
      }
    }
    this.offset = offset;
  }

  /** The numbers for one operator call. @throws XlformersError ERR_RECORDING while a recording is made */
  next(): GeneratorState {
    refuseWhileRecording('random numbers: dropout, sampling or noise');
    return { seed: this.seed, offset: this.offset++ };
  }

  state(): GeneratorState {
    return { seed: this.seed, offset: this.offset };
  }

  static from(state: GeneratorState): Generator {
    return new Generator(state.seed, state.offset);
  }
}
