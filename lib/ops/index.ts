/** Every operator: shape checks, forward, gradient. */
export { activation, type Activation } from './activation';
export {
  adaptiveLogSoftmax,
  adaptiveSoftmaxLoss,
  type AdaptiveSoftmaxOperands,
  type SoftmaxCluster,
} from './adaptiveSoftmax';
export { add, scale, type AddOptions } from './add';
export type { AttentionBand } from './attentionBand';
export { dropout, type DropoutOptions } from './dropout';
export { binaryMask } from './binaryMask';
export { cast } from './cast';
export { binaryCrossEntropy, squaredError } from './elementLoss';
export { embedding, type EmbeddingOptions } from './embedding';
export { layerNorm, type LayerNormOptions } from './layerNorm';
export { linear, packWeight, type LinearOptions, type PackedWeight, type RowRange, type WeightLayout } from './linear';
export { mapRows } from './mapRows';
export { maskedFill } from './maskedFill';
export { meanLabelled, meanNonzero } from './meanNonzero';
export { memoryUpdate, type ColumnRange } from './memoryUpdate';
export { adam, globalNorm, type AdamOperand, type AdamOptions } from './optimizer';
export { fillRandom, type RandomOptions } from './random';
export {
  packedRelativeAttention,
  relativeAttention,
  type PackedRelativeAttentionOptions,
  type PackedRelativeAttentionResult,
  type RelativeAttentionOptions,
  type RelativeAttentionSettings,
} from './relativeAttention';
export {
  permutationAttention,
  type PermutationAttentionOptions,
  type PermutationAttentionResult,
} from './permutationAttention';
export { ringAppend, type RingAppendOptions } from './ringAppend';
export { sample, type SampleOptions, type Sampled } from './sample';
export { concatenate, permute, reshape, slice } from './shape';
export { sinusoidPositions, type SinusoidOptions } from './sinusoidPositions';
export { softmaxCrossEntropy } from './softmaxCrossEntropy';
export { topProbabilities, type TopProbabilities } from './topProbabilities';
