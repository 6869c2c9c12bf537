import { noGrad } from '../autograd';
import { OrderedBatches, type Batch } from '../data/orderedBatches';
import { XlformersError } from '../errors';
import { Memory } from '../nn/memory';
import { Generator } from '../random';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import { Adam } from './adam';
import { type Evaluation, evaluate } from './evaluate';
import type { LanguageModel } from '../models/languageModel';
import { learningRateAt } from './schedule';
import { type TrainConfig, type TrainOptions, resolveTrainConfig } from './trainConfig';
import { firstNonFinite } from './finite';

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
 * Trains a language model with memory on one long text, as the original: contiguous streams, memory carried from segment to
 * segment, dropped at the start of a pass over the text. The trainer computes; saving, logging and signals are `TrainingRun`'s.
 */
export class Trainer {
  readonly config: TrainConfig;
  readonly optimizer: Adam;
  private readonly batches: OrderedBatches;
  /** One per micro-batch; null: the model's own first memory. */
  private memories: (Memory | null)[];
  private current: TrainPosition = { step: 0, epoch: 0, position: 0 };

  /** @param tokens the training text */
  constructor(
    readonly model: LanguageModel,
    tokens: ArrayLike<number>,
    options: TrainOptions = {},
  ) {
    this.config = resolveTrainConfig(options);
    const { beta1, beta2, epsilon, weightDecay, clipNorm, optimizer, accumulation } = this.config;
    this.batches = new OrderedBatches(tokens, this.config.batchSize, this.config.targetLength);
    this.optimizer = new Adam(model.parameters(), {
      beta1,
      beta2,
      epsilon,
      weightDecay,
      clipNorm,
      decoupled: optimizer === 'adamw',
    });
    this.memories = Array.from({ length: accumulation }, () => null);
    model.generator = new Generator(this.config.seed);
    model.resetMemoryLength(this.config.memoryLength);
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
    const { accumulation, steps } = this.config;
    const started = performance.now();
    let batch = this.batches.at(this.current.position);
    if (batch === null) {
      this.current.epoch += 1;
      this.current.position = 0;
      this.forgetMemories();
      batch = this.batches.at(0) as Batch;
    }
    this.optimizer.zeroGrad();
    const losses: Tensor[] = [];
    const memories: (Memory | null)[] = [];
    const random = this.model.generator.state();
    for (let part = 0; part < accumulation; part += 1) {
      if (signal?.aborted) {
        // As if the step had not begun.
        for (const tensor of [...losses, ...memories]) tensor?.dispose();
        this.model.generator = Generator.from(random);
        signal.throwIfAborted();
      }
      const { loss, mems } = this.accumulate(batch, part);
      losses.push(loss);
      memories.push(mems);
      // Waiting between micro-batches lets signals in.
      if (part + 1 < accumulation) await this.model.device.synchronize();
    }
    this.forgetMemories();
    this.memories = memories;
    const step = this.current.step + 1;
    const learningRate = learningRateAt(step, { ...this.schedule(), totalSteps: steps });
    const clip = this.optimizer.step(step, learningRate);
    const values = await Promise.all(losses.map((loss) => loss.item()));
    const [gradientNorm] = await clip.data();
    for (const loss of losses) loss.dispose();
    clip.dispose();
    const loss = values.reduce((sum, value) => sum + value, 0) / accumulation;
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      const culprit = await firstNonFinite(this.model.parameters());
      throw new XlformersError(
        'ERR_NOT_FINITE',
        `step ${step} (epoch ${this.current.epoch}, stream position ${batch.position}): loss ${loss}, gradient norm ` +
          `${gradientNorm}${culprit ? `; first in ${culprit}` : ''}. Lower the learning rate or clipNorm; the last checkpoint is intact`,
      );
    }
    this.current.step = step;
    this.current.position += batch.length;
    return {
      step,
      epoch: this.current.epoch,
      loss,
      learningRate,
      gradientNorm: gradientNorm as number,
      tokens: batch.batch * batch.length,
      seconds: (performance.now() - started) / 1000,
    };
  }

  /** The held-out loss with the evaluation's own segments and memory; the training's memories stay as they are. */
  evaluate(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<Evaluation> {
    const { targetLength, memoryLength, batchSize, maxBatches } = this.config.evaluation;
    return evaluate(this.model, tokens, { targetLength, memoryLength, batchSize, maxBatches, signal });
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

  /** Forward and backward of one micro-batch, enqueued: its mean loss, and the memory it leaves. */
  private accumulate(batch: Batch, part: number): { loss: Tensor; mems: Memory | null } {
    const { accumulation } = this.config;
    const rows = batch.batch / accumulation;
    const shape = [rows, batch.length];
    const [first, end] = [part * rows * batch.length, (part + 1) * rows * batch.length];
    const { device } = this.model;
    return scope(() => {
      const out = this.model.forward({
        inputIds: Tensor.from(batch.inputIds.subarray(first, end), shape, { device }),
        targets: Tensor.from(batch.targets.subarray(first, end), shape, { device }),
        mems: this.memories[part] ?? undefined,
      });
      const value = out.loss as Tensor;
      value.backward(Tensor.full(value.shape, 1 / accumulation, { device, dtype: value.dtype }));
      return { loss: value, mems: out.mems };
    });
  }

  private forgetMemories(): void {
    for (const memory of this.memories) memory?.dispose();
    this.memories = this.memories.map(() => null);
  }
}
