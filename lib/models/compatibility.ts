/**
 * The published implementations of Transformer-XL differ in silence. One preset selects what to follow; docs/compatibility.md has the
 * table with sources.
 */
export type Compatibility = 'hf' | 'pytorch-original' | 'tf-original' | 'nvidia';

export const compatibilities: readonly Compatibility[] = ['hf', 'pytorch-original', 'tf-original', 'nvidia'];

export interface CompatibilityRules {
  /** What a model without memory starts with. */
  firstMemory: 'zeros' | 'empty';
  /** Whether the adaptive softmax counts its cluster columns from the last. */
  reversedClusters: boolean;
  /** Added to the variance in layer norms, unless the configuration says otherwise. */
  layerNormEpsilon: number;
  /** Whether each layer has its own position biases, unless the configuration says otherwise; the PyTorch codes know shared ones only. */
  untiedBiases: boolean;
  /** Initial weights of layer norms: all 1, or drawn around 1. */
  initialNorms: 'ones' | 'drawn';
  /** Initial weights of the adaptive softmax's cluster columns. */
  initialClusters: 'zeros' | 'drawn';
  /** What an XLNet without memLen remembers: all that it saw, or nothing. */
  unlimitedMemory: 'everything' | 'nothing';
  /** The form of GELU where a configuration says "gelu" (Transformer-XL itself has ReLU). */
  gelu: 'gelu' | 'geluTanh';
  /**
   * The first key that query 0 sees under same_length; query i sees keys from i more on.
   * Keys count from the start of the memory; memoryLength is the configured one, keyLength what is there.
   */
  sameLengthLower(queryLength: number, keyLength: number, memoryLength: number): number;
}

/** masks tril(-shift): query i sees keys j > i - shift; shift shrinks once there are more than `visible` keys before the segment. */
function maskedTriangle(queryLength: number, keyLength: number, visible: number): number {
  const maskLength = keyLength - visible;
  return 1 - (maskLength > 0 ? queryLength - maskLength : queryLength);
}

export const compatibilityRules: Record<Compatibility, CompatibilityRules> = {
  hf: {
    firstMemory: 'zeros',
    reversedClusters: false,
    layerNormEpsilon: 1e-5,
    untiedBiases: true,
    initialNorms: 'drawn',
    initialClusters: 'drawn',
    unlimitedMemory: 'everything',
    gelu: 'gelu',
    sameLengthLower: maskedTriangle,
  },
  'pytorch-original': {
    firstMemory: 'empty',
    reversedClusters: true,
    layerNormEpsilon: 1e-5,
    untiedBiases: false,
    initialNorms: 'drawn',
    initialClusters: 'drawn',
    unlimitedMemory: 'everything',
    gelu: 'gelu',
    sameLengthLower: maskedTriangle,
  },
  'tf-original': {
    firstMemory: 'zeros',
    reversedClusters: false,
    layerNormEpsilon: 1e-12,
    untiedBiases: true,
    initialNorms: 'ones',
    initialClusters: 'zeros',
    unlimitedMemory: 'nothing',
    gelu: 'geluTanh',
    // Masks the strict lower triangle of the first queryLength keys, however full the memory is.
    sameLengthLower: () => 0,
  },
  nvidia: {
    firstMemory: 'empty',
    reversedClusters: true,
    layerNormEpsilon: 1e-5,
    untiedBiases: false,
    initialNorms: 'drawn',
    initialClusters: 'drawn',
    unlimitedMemory: 'everything',
    gelu: 'gelu',
    // One key more than the original.
    sameLengthLower: (queryLength, keyLength, memoryLength) => maskedTriangle(queryLength, keyLength, memoryLength + 1),
  },
};
