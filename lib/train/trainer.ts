import { noGrad } from '../autograd';
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
import type { HeldOut, MicroBatch, TaskFactory, TrainingBatch, TrainingTask } from './task';

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
  private current: TrainPosition = { step: 0, epoch: 0, position: 0 };

  /** @throws XlformersError ERR_CONFIG naming the option */
  constructor(task: TaskFactory<Result>, options: TrainOptions = {}) {
    this.config = resolveTrainConfig(options);
    this.task = task(this.config);
    const { model } = this.task;
    const { beta1, beta2, epsilon, weightDecay, decayed, layerDecay, clipNorm, optimizer, accumulation } = this.config;
    this.optimizer = new Adam(model.parameters(), {
      ...{ beta1, beta2, epsilon, weightDecay, decayed, clipNorm },
      rateShare: layerRateShares(model.parameters().keys(), layerDecay),
      decoupled: optimizer === 'adamw',
    });
    this.memories = Array.from({ length: accumulation }, () => null);
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

  /** Puts the run where a checkpoint was made. Weights and moments are the caller's to restore. */
  restore(position: TrainPosition, memoryLayers: readonly Tensor[]): void {
    this.current = { ...position };
    this.forgetMemories();
    if (memoryLayers.length > 0) this.memories = Memory.split(memoryLayers, this.config.accumulation);
  }

  /**
   * One optimizer step: every micro-batch forward and backward, then the update.
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
    for (const [part, microBatch] of batch.microBatches.entries()) {
      if (signal?.aborted) {
        // As if the step had not begun.
        for (const tensor of [...losses, ...memories]) tensor?.dispose();
        model.generator = Generator.from(random);
        signal.throwIfAborted();
      }
      const { loss, mems } = this.accumulate(microBatch, this.memories[part] ?? null);
      losses.push(loss);
      memories.push(mems);
      // Waiting between micro-batches lets signals in.
      if (part + 1 < batch.microBatches.length) await model.device.synchronize();
    }
    this.forgetMemories();
    this.memories = memories;
    const step = this.current.step + 1;
    const learningRate = learningRateAt(step, { ...this.schedule(), totalSteps: this.config.steps });
    const clip = this.optimizer.step(step, learningRate);
    const values = await Promise.all(losses.map((loss) => loss.item()));
    const [gradientNorm] = await clip.data();
    for (const loss of losses) loss.dispose();
    clip.dispose();
    const weights = batch.microBatches.map(({ weight }) => weight);
    const loss = values.reduce((sum, value, part) => sum + value * (weights[part] as number), 0);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      const culprit = await firstNonFinite(model.parameters());
      throw new XlformersError(
        'ERR_NOT_FINITE',
        `step ${step} (epoch ${this.current.epoch}, position ${this.current.position}): loss ${loss}, gradient norm ` +
          `${gradientNorm}${culprit ? `; first in ${culprit}` : ''}. Lower the learning rate or clipNorm; the last checkpoint is intact`,
      );
    }
    this.current.step = step;
    this.current.position = batch.next;
    return {
      step,
      epoch: this.current.epoch,
      loss,
      learningRate,
      gradientNorm: gradientNorm as number,
      tokens: batch.tokens,
      seconds: (performance.now() - started) / 1000,
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
  private accumulate({ weight, forward }: MicroBatch, memory: Memory | null): ReturnType<MicroBatch['forward']> {
    return scope(() => {
      const { loss, mems } = forward(memory);
      loss.backward(Tensor.full(loss.shape, weight, { device: this.task.model.device, dtype: loss.dtype }));
      return { loss, mems };
    });
  }

  private forgetMemories(): void {
    for (const memory of this.memories) memory?.dispose();
    this.memories = this.memories.map(() => null);
  }
}
