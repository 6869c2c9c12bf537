/** Draws and rankings of scores. */
import type { NativeBuffer, NativeDType, OptionalBuffer, Random } from './types';

/** The softmax of each row, and its k largest with their columns. */
export interface NativeTopProbabilities {
  dtype: NativeDType;
  rows: number;
  columns: number;
  k: number;
  scores: NativeBuffer;
  probabilities: NativeBuffer;
  /** [rows, k] */
  top: NativeBuffer;
  /** int32 [rows, k] */
  indices: NativeBuffer;
}

/** Draws an id from each row of scores. */
export interface NativeSample extends Random {
  dtype: NativeDType;
  rows: number;
  columns: number;
  /** 0: the most probable id. */
  temperature: number;
  /** 0: off. */
  topK: number;
  /** In (0, 1]. */
  topP: number;
  /** int32 [rows, 4], in the place of seed and offset: those of each row, as words, the lower first; offsets count on. */
  streams?: OptionalBuffer;
  scores: NativeBuffer;
  /** int32 [rows] */
  ids: NativeBuffer;
  logProbability?: OptionalBuffer;
}
