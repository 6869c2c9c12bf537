import type { Device } from '../device';
import type { Memory } from '../nn/memory';
import type { Generator } from '../random';
import type { Parameter, Tensor } from '../tensor';

/** What training and evaluation need of a model with memory that predicts the next token. */
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
