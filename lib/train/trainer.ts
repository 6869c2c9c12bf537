import { noGrad } from '../autograd';
import { type FloatDType, isShortFloat } from '../dtype';
import { XlformersError } from '../errors';
import { Memory } from '../nn/memory';
import { Generator } from '../random';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import { Adam } from './adam';
import { layerRateShares } from './layerDecay';
import { learningRateAt } from './schedule';
import { type TrainConfig, type TrainOptions, resolveTrainConfig } from './trainConfig';
import { firstNonFinite } from './finite';
import { LossScaler, type LossScalerState } from './lossScaler';
import type { HeldOut, MicroBatch, TaskFactory, TrainableModel, TrainingBatch, TrainingTask } from './task';

/** What a step did. */
export interface StepReport {
  /** Counts from 1. */
  step: number;
  epoch: number;
  /** Mean over the batch, nats per token. */
  loss: number;
  learningRate: number;
  /** Before clipping. */
  gradientNorm: number;
  tokens: number;
  /** Seconds that the step took. */
  seconds: number;
  /** What the loss was multiplied by; null unless the precision is float16. */
  lossScale: number | null;
  /** Whether a gradient was not finite, so that the weights stayed as they were; the scale is lower from now on. Float16 only. */
  skipped: boolean;
}

/** Where the data and the memories stand. */
export interface TrainPosition {
  step: number;
  epoch: number;
  position: number;
}

/**
 * Carries a task out: batches in order, memories carried from each micro-batch to the same rows of the next step and dropped at the start
 * of an epoch, gradients, updates. The trainer computes; saving, logging and signals are `trainInDirectory`'s.
 */
export class Trainer<Result extends HeldOut = HeldOut> {
  readonly config: TrainConfig;
  readonly optimizer: Adam;
  readonly task: TrainingTask<Result>;
  /** One per micro-batch; null: the model's own first memory. */
  private memories: (Memory | null)[];
  private readonly scaler: LossScaler | null;
  private current: TrainPosition = { step: 0, epoch: 0, position: 0 };

  /** @throws XlformersError ERR_CONFIG naming the option, ERR_UNSUPPORTED for a precision that the device does not compute in */
  constructor(task: TaskFactory<Result>, options: TrainOptions = {}) {
    this.config = resolveTrainConfig(options);
    this.task = task(this.config);
    const { model } = this.task;
    const weights = masterDType(model);
    model.setPrecision(this.config.precision === 'float32' ? weights : this.config.precision);
    const { beta1, beta2, epsilon, weightDecay, decayed, layerDecay, clipNorm, optimizer, accumulation } = this.config;
    this.optimizer = new Adam(model.parameters(), {
      ...{ beta1, beta2, epsilon, weightDecay, decayed, clipNorm },
      rateShare: layerRateShares(model.parameters().keys(), layerDecay),
      decoupled: optimizer === 'adamw',
    });
    this.memories = Array.from({ length: accumulation }, () => null);
    this.scaler = this.config.precision === 'float16' ? new LossScaler(this.config.lossScaling) : null;
    model.generator = new Generator(this.config.seed);
    model.train();
  }

  get position(): TrainPosition {
    return { ...this.current };
  }

  get finished(): boolean {
    return this.current.step >= this.config.steps;
  }

  /** Memories of all streams by layer, [rows, memoryLength, dModel]; empty before the first step of a pass. */
  memoryState(): Tensor[] {
    if (this.memories.some((memory) => memory === null)) return [];
    return noGrad(() => scope(() => Memory.concatenate(this.memories as Memory[])));
  }

  /** Of float16's loss scale; null in other precisions. */
  get lossScalerState(): LossScalerState | null {
    return this.scaler?.state ?? null;
  }

  /** Puts the run where a checkpoint was made. Weights and moments are the caller's to restore. */
  restore(position: TrainPosition, memoryLayers: readonly Tensor[], lossScaler: LossScalerState | null = null): void {
    this.current = { ...position };
    if (lossScaler) this.scaler?.restore(lossScaler);
    this.forgetMemories();
    if (memoryLayers.length > 0) this.memories = Memory.split(memoryLayers, this.config.accumulation);
  }

  /**
   * One optimizer step: every micro-batch forward and backward, then the update. With float16, a step whose gradients overflow is
   * skipped (data, memories and schedule move on), until no loss scale helps.
   * @throws XlformersError ERR_NOT_FINITE naming step, position and the first bad parameter; the weights are then as before the step
   */
  async step(signal?: AbortSignal): Promise<StepReport> {
    const started = performance.now();
    const { model } = this.task;
    const batch = this.nextBatch();
    this.optimizer.zeroGrad();
    const losses: Tensor[] = [];
    const memories: (Memory | null)[] = [];
    const random = model.generator.state();
    const lossScale = this.scaler?.scale ?? null;
    for (const [part, microBatch] of batch.microBatches.entries()) {
      if (signal?.aborted) {
        // As if the step had not begun.
        for (const tensor of [...losses, ...memories]) tensor?.dispose();
        model.generator = Generator.from(random);
        signal.throwIfAborted();
      }
      const { loss, mems } = this.accumulate(microBatch, this.memories[part] ?? null, lossScale ?? 1);
      losses.push(loss);
      memories.push(mems);
      // Waiting between micro-batches lets signals in.
      if (part + 1 < batch.microBatches.length) await model.device.synchronize();
    }
    this.forgetMemories();
    this.memories = memories;
    const step = this.current.step + 1;
    const learningRate = learningRateAt(step, { ...this.schedule(), totalSteps: this.config.steps });
    const updates = step - (this.scaler?.state.skipped ?? 0);
    const clip = this.optimizer.step(updates, learningRate, lossScale ?? 1);
    const values = await Promise.all(losses.map((loss) => loss.item()));
    const [gradientNorm, , finite] = (await clip.data()) as ArrayLike<number> as [number, number, number];
    for (const loss of losses) loss.dispose();
    clip.dispose();
    const weights = batch.microBatches.map(({ weight }) => weight);
    const loss = values.reduce((sum, value, part) => sum + value * (weights[part] as number), 0);
    const skipped = this.scaler !== null && finite === 0;
    this.scaler?.update(!skipped);
    const exhausted = this.scaler?.exhausted === true;
    if (skipped ? exhausted : !Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      const culprit = await firstNonFinite(model.parameters());
      throw new XlformersError(
        'ERR_NOT_FINITE',
        `step ${step} (epoch ${this.current.epoch}, position ${this.current.position}): loss ${loss}, gradient norm ` +
          `${gradientNorm}${culprit ? `; first in ${culprit}` : ''}` +
          (exhausted ? `, and a loss scale of ${lossScale} does not help: try precision 'bfloat16'` : '') +
          '. Lower the learning rate or clipNorm; the last checkpoint is intact',
      );
    }
    // States that overflowed would spoil every step to come.
    if (skipped && !Number.isFinite(loss)) this.forgetMemories();
    this.current.step = step;
    this.current.position = batch.next;
    return {
      step,
      epoch: this.current.epoch,
      loss,
      learningRate,
      gradientNorm,
      tokens: batch.tokens,
      seconds: (performance.now() - started) / 1000,
      lossScale,
      skipped,
    };
  }

  /** The task's evaluation on held-out data, null without any; the training's memories stay as they are. */
  async evaluate(signal?: AbortSignal): Promise<Result | null> {
    return this.task.evaluate === null ? null : this.task.evaluate(signal);
  }

  dispose(): void {
    this.forgetMemories();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
    this.task.model.setPrecision(masterDType(this.task.model));
  }

  private schedule() {
    const { schedule: kind, learningRate, warmupSteps, minimumRate } = this.config;
    return { kind, learningRate, warmupSteps, minimumRate };
  }

  /** The batch at the current position, or the first of the next epoch. */
  private nextBatch(): TrainingBatch {
    const { epoch, position } = this.current;
    const batch = this.task.batchAt(epoch, position);
    if (batch !== null) return batch;
    this.current.epoch += 1;
    this.current.position = 0;
    this.forgetMemories();
    return this.task.batchAt(this.current.epoch, 0) as TrainingBatch;
  }

  /** Forward and backward of one micro-batch, enqueued: its mean loss, and the memory it leaves. */
  private accumulate(
    { weight, forward }: MicroBatch,
    memory: Memory | null,
    lossScale: number,
  ): ReturnType<MicroBatch['forward']> {
    return scope(() => {
      const { loss, mems } = forward(memory);
      loss.backward(Tensor.full(loss.shape, weight * lossScale, { device: this.task.model.device, dtype: loss.dtype }));
      return { loss, mems };
    });
  }

  private forgetMemories(): void {
    for (const memory of this.memories) memory?.dispose();
    this.memories = this.memories.map(() => null);
  }
}

/** The type of the weights. @throws XlformersError ERR_CONFIG where updates would be rounded away in it */
function masterDType(model: TrainableModel): FloatDType {
  const [parameter] = model.parameters().values();
  const dtype = (parameter?.dtype ?? 'float32') as FloatDType;
  if (isShortFloat(dtype)) {
    throw new XlformersError(
      'ERR_CONFIG',
      `model: its weights are ${dtype}, expected float32, in which small updates are not lost; load it in float32 and train with ` +
        `precision '${dtype}'`,
    );
  }
  return dtype;
}
