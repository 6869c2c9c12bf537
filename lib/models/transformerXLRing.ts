import { noGrad } from '../autograd';
import type { Memory } from '../nn/memory';
import { MemoryRing } from '../nn/memoryRing';
import type { Sampler } from '../nn/sampler';
import { reshape, slice } from '../ops/shape';
import { type Recording, record } from '../record';
import { keep, scope } from '../scope';
import { Tensor } from '../tensor';
import type { RingSteps } from './decodingSessions';
import type { TransformerXLModel } from './transformerXL';

/** Decoding over a full memory: the first step is recorded, and the others replay it with other ids. */
export class TransformerXLRing implements RingSteps {
  /** int32 [batch, 1]: what a step reads that is given ids. */
  private readonly ids: Tensor;
  private scoring: Recording<Tensor> | null = null;
  /** Of steps that read what a sampler drew, and end with its next draw. */
  private drawing: { sampler: Sampler; steps: Recording<void> } | null = null;

  /** @param scoresOf of states [rows, 1, dModel] */
  constructor(
    private readonly model: TransformerXLModel,
    private readonly scoresOf: (states: Tensor) => Tensor,
    private readonly ring: MemoryRing,
  ) {
    this.ids = keep(Tensor.zeros([ring.batch, 1], { dtype: 'int32', device: model.device }));
  }

  get current(): boolean {
    return this.model.fillsRing(this.ring);
  }

  step(ids: ArrayLike<number>): Tensor {
    this.ids.overwrite(Int32Array.from(ids));
    if (this.scoring) {
      this.scoring.replay();
    } else {
      this.scoring = this.record(() => this.scores(this.ids));
      keep(this.scoring.outputs);
    }
    this.ring.advanced(1);
    // The next step overwrites the recording's own.
    const { outputs } = this.scoring;
    return noGrad(() => slice(outputs, 0, 0, outputs.shape[0] as number));
  }

  advance(sampler: Sampler): void {
    if (this.drawing?.sampler === sampler) {
      this.drawing.steps.replay();
    } else {
      this.drawing?.steps.dispose();
      this.drawing = null;
      const body = () => sampler.draw(this.scores(reshape(sampler.ids, [this.ring.batch, 1])));
      this.drawing = { sampler, steps: this.record(body) };
    }
    this.ring.advanced(1);
  }

  select(texts: readonly number[]): RingSteps {
    return new TransformerXLRing(
      this.model,
      this.scoresOf,
      scope(() => this.ring.select(texts)),
    );
  }

  memory(): Memory {
    return scope(() => this.ring.memory());
  }

  dispose(): void {
    this.scoring?.dispose();
    this.scoring?.outputs.dispose();
    this.drawing?.steps.dispose();
    this.ring.dispose();
    this.ids.dispose();
  }

  private scores(ids: Tensor): Tensor {
    return this.scoresOf(this.model.forwardRing(ids, this.ring));
  }

  private record<T>(body: () => T): Recording<T> {
    return noGrad(() => record(body, { device: this.model.device }));
  }
}
