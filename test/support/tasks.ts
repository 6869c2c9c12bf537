import { type HeldOut, type Memory, type TaskFactory, type TrainOptions, Trainer, noGrad, scope } from '../../lib';
import { resolveTrainConfig } from '../../lib/train/trainConfig';
import type { MicroBatch, TrainingBatch, TrainingTask } from '../../lib';

/** A task as the trainer makes it. */
export function made<R extends HeldOut>(factory: TaskFactory<R>, options: TrainOptions): TrainingTask<R> {
  return factory(resolveTrainConfig(options));
}

/** The losses of the micro-batches of a batch, without gradients. */
export async function lossesOf({ microBatches }: TrainingBatch): Promise<number[]> {
  const values: number[] = [];
  for (const microBatch of microBatches) values.push(await lossOf(microBatch));
  return values;
}

export async function lossOf({ forward }: MicroBatch, memory: Memory | null = null): Promise<number> {
  const loss = noGrad(() => scope(() => forward(memory).loss));
  const value = await loss.item();
  loss.dispose();
  return value;
}

/** The losses of the first steps of a training. */
export async function trained(trainer: Trainer, count: number): Promise<number[]> {
  const values: number[] = [];
  for (let step = 0; step < count; step += 1) values.push((await trainer.step()).loss);
  return values;
}
