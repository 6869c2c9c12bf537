import type { Device } from '../device';
import type { FloatDType } from '../dtype';
import type { Memory } from '../nn/memory';
import type { Generator } from '../random';
import type { Parameter, Tensor } from '../tensor';
import type { TrainConfig } from './trainConfig';

/** What training needs of a model; every architecture and head fits. */
export interface TrainableModel {
  readonly device: Device;
  readonly training: boolean;
  readonly config: object;
  /** What it computes in. */
  readonly precision: FloatDType;
  /** The source of dropout masks; its state is part of a checkpoint. */
  generator: Generator;
  parameters(): ReadonlyMap<string, Parameter>;
  /** @throws XlformersError ERR_UNSUPPORTED where the device does not compute in it, ERR_CONFIG where the weights' type forbids it */
  setPrecision(precision: FloatDType): void;
  train(): void;
  eval(): void;
  save(directory: string): Promise<void>;
}

/** The rows of a step that go through the model at once. */
export interface MicroBatch {
  /** Its share in the loss of the step; the shares of a step add up to 1. */
  weight: number;
  /** Enqueues the forward pass: the mean loss, a scalar, and the memory left for the same rows of the next step. */
  forward(memory: Memory | null): { loss: Tensor; mems: Memory | null };
}

/** What one optimizer step learns from. */
export interface TrainingBatch {
  microBatches: readonly MicroBatch[];
  /** Tokens read, for the speed shown. */
  tokens: number;
  /** Position of the next batch. */
  next: number;
}

/** Figures of a held-out evaluation, for the log: what JSON can hold. */
export interface HeldOut {
  /** Nats per target; the lowest is the best. */
  loss: number;
}

/** In what a loss is shown. */
export interface LossUnit {
  /** 'bits per character' */
  name: string;
  /** How many nats make one. */
  nats: number;
}

/** What is learnt: a model, its data, its loss. Trainer and training run know no more of an architecture than this. */
export interface TrainingTask<Result extends HeldOut> {
  readonly model: TrainableModel;
  /** Of the loss curve. */
  readonly lossUnit: LossUnit;
  /**
   * What the losses depend on beside the two configurations, for checkpoints: a run goes on with the same data only. Of several
   * differences the first is named.
   */
  readonly data: Readonly<Record<string, unknown>>;
  /** The batch at a position, or null after the last of an epoch. A function of its arguments: nothing else is needed to resume. */
  batchAt(epoch: number, position: number): TrainingBatch | null;
  /** Null without held-out data. The model's mode, its memories and its generator are left as they were. */
  readonly evaluate: ((signal?: AbortSignal) => Promise<Result>) | null;
}

/** @throws XlformersError ERR_CONFIG where the configuration does not suit the data */
export type TaskFactory<Result extends HeldOut> = (config: TrainConfig) => TrainingTask<Result>;
