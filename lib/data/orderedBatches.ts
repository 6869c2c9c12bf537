import { XlformersError } from '../errors';
import { requireTokenIds } from './tokenIds';

/** A segment of every stream: row-major [batch, length]. */
export interface Batch {
  inputIds: Int32Array;
  /** The ids one position later. */
  targets: Int32Array;
  batch: number;
  length: number;
  /** Position of the segment in its stream. */
  position: number;
}

/**
 * The original's LMOrderedIterator: the text is cut into `batch` contiguous streams, and a batch holds the next `targetLength`
 * tokens of each, so that the memory left by one batch belongs to the rows of the next. What does not fill a row is dropped.
 * Position and length say everything: any batch can be had without those before it.
 */
export class OrderedBatches {
  /** Tokens in each stream. */
  readonly streamLength: number;

  /** @throws XlformersError ERR_TOKEN_ID naming index and value, ERR_ARG_RANGE when there are too few */
  constructor(
    private readonly tokens: ArrayLike<number>,
    readonly batchSize: number,
    readonly targetLength: number,
  ) {
    this.streamLength = Math.floor(tokens.length / batchSize);
    if (this.streamLength < 2) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `data: got ${tokens.length} tokens, expected at least ${2 * batchSize} for ${batchSize} streams`,
      );
    }
    requireTokenIds('data', tokens);
  }

  /** Batches in one pass over the text. */
  get batchesPerEpoch(): number {
    return Math.ceil((this.streamLength - 1) / this.targetLength);
  }

  /** Tokens predicted in one pass. */
  get tokensPerEpoch(): number {
    return this.batchSize * (this.streamLength - 1);
  }

  /** The batch that starts at `position` of each stream, or null at the end. The last one may be shorter. */
  at(position: number): Batch | null {
    const length = Math.min(this.targetLength, this.streamLength - 1 - position);
    if (length <= 0) return null;
    const { batchSize: batch, streamLength, tokens } = this;
    const inputIds = new Int32Array(batch * length);
    const targets = new Int32Array(batch * length);
    for (let row = 0; row < batch; row += 1) {
      const start = row * streamLength + position;
      for (let index = 0; index < length; index += 1) {
        inputIds[row * length + index] = tokens[start + index] as number;
        targets[row * length + index] = tokens[start + index + 1] as number;
      }
    }
    return { inputIds, targets, batch, length, position };
  }

  *[Symbol.iterator](): Iterator<Batch> {
    for (let position = 0, batch = this.at(0); batch !== null; batch = this.at(position)) {
      yield batch;
      position += batch.length;
    }
  }
}
