/**
 * The parameter blocks of `native/core/operators/` as TypeScript sees them, by the same families; those files have the formulas.
 * Matrices are row-major, sizes and strides count elements. The addon checks every field against the sizes of the buffers, whose
 * handles are its only pointers.
 */
import type {
  NativeActivationCall,
  NativeActivationGradient,
  NativeAdd,
  NativeBinaryMask,
  NativeCast,
  NativeCopyStrided,
  NativeDropout,
  NativeFill,
  NativeMaskedFill,
  NativePermute,
  NativeRandomFill,
} from './nativeOperators/elementwise';
import type { NativeAdam, NativeGlobalNorm } from './nativeOperators/optimizer';
import type {
  NativeAdaptiveLogSoftmax,
  NativeAdaptiveSoftmaxLoss,
  NativeAdaptiveSoftmaxLossGradient,
  NativeElementLoss,
  NativeElementLossGradient,
  NativeMeanNonzero,
  NativeMeanNonzeroGradient,
  NativeSoftmaxCrossEntropy,
  NativeSoftmaxCrossEntropyGradient,
} from './nativeOperators/losses';
import type {
  NativeColumnSum,
  NativeEmbedding,
  NativeEmbeddingGradient,
  NativeLayerNorm,
  NativeLayerNormGradient,
  NativeMatrixProduct,
  NativePackMatrix,
  NativeSinusoidPositions,
} from './nativeOperators/layers';
import type {
  NativeMemoryUpdate,
  NativeRelativeAttention,
  NativeRelativeAttentionGradient,
  NativeRelativeAttentionProbabilities,
  NativeRingAppend,
} from './nativeOperators/relativeAttention';
import type {
  NativePermutationAttention,
  NativePermutationAttentionGradient,
  NativePermutationAttentionProbabilities,
} from './nativeOperators/permutationAttention';
import type { NativeSample, NativeTopProbabilities } from './nativeOperators/sampling';

export type * from './nativeOperators/elementwise';
export type * from './nativeOperators/layers';
export type * from './nativeOperators/losses';
export type * from './nativeOperators/optimizer';
export type * from './nativeOperators/permutationAttention';
export type * from './nativeOperators/relativeAttention';
export type * from './nativeOperators/sampling';
export type * from './nativeOperators/types';

/** The operators: each call checks its arguments, enqueues and returns at once. */
export interface NativeOperators {
  fill(options: NativeFill): void;
  permute(options: NativePermute): void;
  copyStrided(options: NativeCopyStrided): void;
  randomFill(options: NativeRandomFill): void;
  add(options: NativeAdd): void;
  dropout(options: NativeDropout): void;
  activation(options: NativeActivationCall): void;
  activationGradient(options: NativeActivationGradient): void;
  matrixProduct(options: NativeMatrixProduct): void;
  packMatrix(options: NativePackMatrix): void;
  columnSum(options: NativeColumnSum): void;
  layerNorm(options: NativeLayerNorm): void;
  layerNormGradient(options: NativeLayerNormGradient): void;
  embedding(options: NativeEmbedding): void;
  embeddingGradient(options: NativeEmbeddingGradient): void;
  sinusoidPositions(options: NativeSinusoidPositions): void;
  relativeAttention(options: NativeRelativeAttention): void;
  relativeAttentionGradient(options: NativeRelativeAttentionGradient): void;
  relativeAttentionProbabilities(options: NativeRelativeAttentionProbabilities): void;
  memoryUpdate(options: NativeMemoryUpdate): void;
  adaptiveSoftmaxLoss(options: NativeAdaptiveSoftmaxLoss): void;
  adaptiveSoftmaxLossGradient(options: NativeAdaptiveSoftmaxLossGradient): void;
  adaptiveLogSoftmax(options: NativeAdaptiveLogSoftmax): void;
  softmaxCrossEntropy(options: NativeSoftmaxCrossEntropy): void;
  softmaxCrossEntropyGradient(options: NativeSoftmaxCrossEntropyGradient): void;
  meanNonzero(options: NativeMeanNonzero): void;
  meanNonzeroGradient(options: NativeMeanNonzeroGradient): void;
  squaredError(options: NativeElementLoss): void;
  squaredErrorGradient(options: NativeElementLossGradient): void;
  binaryCrossEntropy(options: NativeElementLoss): void;
  binaryCrossEntropyGradient(options: NativeElementLossGradient): void;
  globalNorm(options: NativeGlobalNorm): void;
  adam(options: NativeAdam): void;
  sample(options: NativeSample): void;
  permutationAttention(options: NativePermutationAttention): void;
  permutationAttentionGradient(options: NativePermutationAttentionGradient): void;
  permutationAttentionProbabilities(options: NativePermutationAttentionProbabilities): void;
  binaryMask(options: NativeBinaryMask): void;
  maskedFill(options: NativeMaskedFill): void;
  topProbabilities(options: NativeTopProbabilities): void;
  cast(options: NativeCast): void;
  ringAppend(options: NativeRingAppend): void;
}

/** @internal Their names, in the order of `native/core/operators.h`. */
export const operatorNames = [
  'fill',
  'permute',
  'copyStrided',
  'randomFill',
  'add',
  'dropout',
  'activation',
  'activationGradient',
  'matrixProduct',
  'packMatrix',
  'columnSum',
  'layerNorm',
  'layerNormGradient',
  'embedding',
  'embeddingGradient',
  'sinusoidPositions',
  'relativeAttention',
  'relativeAttentionGradient',
  'relativeAttentionProbabilities',
  'memoryUpdate',
  'adaptiveSoftmaxLoss',
  'adaptiveSoftmaxLossGradient',
  'adaptiveLogSoftmax',
  'softmaxCrossEntropy',
  'softmaxCrossEntropyGradient',
  'meanNonzero',
  'meanNonzeroGradient',
  'squaredError',
  'squaredErrorGradient',
  'binaryCrossEntropy',
  'binaryCrossEntropyGradient',
  'globalNorm',
  'adam',
  'sample',
  'permutationAttention',
  'permutationAttentionGradient',
  'permutationAttentionProbabilities',
  'binaryMask',
  'maskedFill',
  'topProbabilities',
  'cast',
  'ringAppend',
] as const satisfies readonly (keyof NativeOperators)[];
