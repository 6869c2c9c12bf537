import { noGrad } from '../autograd';
import type { Memory } from '../nn/memory';
import { MemoryRing } from '../nn/memoryRing';
import { slice } from '../ops/shape';
import { type Recording, record } from '../record';
import { keep, scope } from '../scope';
import { Tensor } from '../tensor';
import type { RingSteps } from './decodingSessions';
import type { TransformerXLModel } from './transformerXL';

/** Decoding over a full memory: the first step is recorded, and the others replay it with other ids. */
export class TransformerXLRing implements RingSteps {
  /** int32 [batch, 1]: what a step reads. */
  private readonly ids: Tensor;
  private recording: Recording<Tensor> | null = null;

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
    if (this.recording) {
      this.recording.replay();
    } else {
      const pass = () => this.scoresOf(this.model.forwardRing(this.ids, this.ring));
      this.recording = noGrad(() => record(pass, { device: this.model.device }));
      keep(this.recording.outputs);
    }
    this.ring.advanced(1);
    // The next step overwrites the recording's own.
    const { outputs } = this.recording;
    return noGrad(() => slice(outputs, 0, 0, outputs.shape[0] as number));
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
    this.recording?.dispose();
    this.recording?.outputs.dispose();
    this.ring.dispose();
    this.ids.dispose();
  }
}
