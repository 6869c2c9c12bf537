import type { Device } from '../device';
import type { Memory } from '../nn/memory';
import type { Generator } from '../random';
import type { Parameter, Tensor } from '../tensor';

/** What training, evaluation and generation need of a model with memory; every architecture's language model fits. */
export interface LanguageModel {
  readonly device: Device;
  readonly training: boolean;
  /** Rows of memory that a forward pass leaves behind. */
  readonly memoryLength: number;
  /** The source of dropout masks; its state is part of a checkpoint. */
  generator: Generator;
  forward(inputs: { inputIds: Tensor; targets?: Tensor; mems?: Memory | 'zeros' | 'empty' | undefined }): {
    loss: Tensor | null;
    predictionScores: Tensor | null;
    mems: Memory | null;
  };
  parameters(): ReadonlyMap<string, Parameter>;
  resetMemoryLength(length: number): void;
  train(): void;
  eval(): void;
}
