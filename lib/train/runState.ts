import type { GeneratorState } from '../random';
import type { LossScalerState } from './lossScaler';
import type { HeldOut } from './task';
import type { TrainConfig } from './trainConfig';

/**
 * Where a run stands, beside weights, moments and memories. With counters instead of generators and iterators, this is all that
 * a run needs to continue bit for bit.
 */
export interface RunState {
  format: 'xlformers-training/1';
  /** Optimizer steps done. */
  step: number;
  epoch: number;
  /** Position of the next batch in its stream. */
  position: number;
  generator: GeneratorState;
  /** Null, or absent in older checkpoints, where the precision needs no loss scale. */
  lossScaler?: LossScalerState | null;
  /** Best validation loss so far; null before the first evaluation. */
  bestLoss: number | null;
  bestStep: number;
  /** Evaluations since the best. */
  sinceBest: number;
  /** The last step evaluated. */
  evaluatedStep: number;
  /** Bytes of the log that belong to the steps done; what follows is cut off on resume. */
  logBytes: number;
  config: TrainConfig;
  modelConfig: unknown;
  /** What the batches depend on beside `config`, hashes of the data included (`TrainingTask.data`). */
  data: Readonly<Record<string, unknown>>;
}

/** One line of `log.jsonl`; an evaluation has all figures of its task. */
export type LogEntry =
  | {
      event: 'step';
      step: number;
      /** Null where a skipped step's was not finite. */
      loss: number | null;
      learningRate: number;
      /** Null where it was not finite and the step was skipped. */
      gradientNorm: number | null;
      tokensPerSecond: number;
      /** With float16 only. */
      lossScale?: number;
      skipped?: boolean;
    }
  | ({ event: 'evaluation'; step: number } & HeldOut);
