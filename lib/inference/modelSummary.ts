import type { SafetensorsDType } from '../checkpoints/safetensors';
import { dtypeBytes } from '../checkpoints/safetensorsHeader';
import { openWeights, type WeightInfo } from '../checkpoints/weights';
import { XlformersError, describe } from '../errors';
import { readModelConfig } from '../models/pretrained';
import { transformerXLConfigFromFile } from '../models/transformerXLConfig';
import { xlnetConfigFromFile } from '../models/xlnetConfig';
import { requireInteger } from '../ops/checks';

export const parameterGroups = ['embedding', 'layers', 'head'] as const;

/** What a model folder holds and what it takes to run it. */
export interface ModelSummary {
  /** The class that config.json names, or its model_type. */
  architecture: string;
  directory: string;
  /** The file, or index, that the weights are in. */
  file: string;
  /** Tied weights count once. */
  parameters: number;
  groups: Record<(typeof parameterGroups)[number], number>;
  /** As stored: tied weights may be there twice. */
  tensors: number;
  storedBytes: number;
  /** Elements by type, as stored. */
  dtypes: Partial<Record<SafetensorsDType, number>>;
  memory: MemoryNeeds;
  /** config.json as it stands. */
  config: Record<string, unknown>;
}

/** Bytes. The sums with activations are estimates for the CPU, about a tenth exact; scratch memory of operators comes on top. */
export interface MemoryNeeds {
  /** Of all weights in float32, as they are when loaded. */
  weightBytes: number;
  /** What the memory of one stream holds; null where it grows with all that was seen. */
  streamBytes: number | null;
  batchSize: number;
  length: number;
  /** Weights, their packed copies and the activations of a forward pass over batchSize x length tokens. */
  inferenceBytes: number;
  /** Weights, gradients, two moments, and what a pass over batchSize x length tokens keeps for its gradient. */
  trainingBytes: number;
}

export interface SummaryOptions {
  /** Sequences of the pass that memory is estimated for. Default 1. */
  batchSize?: number;
  /** Tokens of each. Default 512. */
  length?: number;
}

/** What the estimates need of either configuration. */
interface Sizes {
  nLayer: number;
  dModel: number;
  dInner: number;
  vocabSize: number;
  memLen: number | null;
  /** Values of the inner layer that a gradient needs, by its width: relu's own are enough, others need what went into them too. */
  innerValues: 1 | 2;
  /** Whether a stored tensor is another one under a second name. */
  isTied: (name: string) => boolean;
}

/** Position frequencies, which checkpoints carry and which are no parameters. */
const computed = /(^|\.)pos_emb\.inv_freq$/;
/** Weights of matrix products that inference keeps a packed copy of. */
const packed = /\.(rel_attn\.[qkvo]|ff\.layer_[12]\.weight|(dec_attn\.(qkv_net|o_net)|CoreNet\.[03])\.weight)$/;

/**
 * Reads a model folder's configuration and the names and shapes of its weights, no data.
 * @throws XlformersError ERR_CONFIG, ERR_FILE_*, and the errors of the weights' format
 */
export async function summarizeModel(
  directory: string,
  { batchSize = 1, length = 512 }: SummaryOptions = {},
): Promise<ModelSummary> {
  requireInteger('batchSize', batchSize, 1);
  requireInteger('length', length, 1);
  const config = await readModelConfig(directory);
  const sizes = sizesOf(config, directory);
  const weights = await openWeights(directory);
  try {
    const groups = { embedding: 0, layers: 0, head: 0 };
    const dtypes: Partial<Record<SafetensorsDType, number>> = {};
    let storedBytes = 0;
    let packedCount = 0;
    let hasVocabularyHead = false;
    for (const [name, info] of weights.tensors) {
      const count = elementCount(info);
      dtypes[info.dtype] = (dtypes[info.dtype] ?? 0) + count;
      storedBytes += count * dtypeBytes[info.dtype];
      if (/^(lm_loss|crit)\./.test(name)) hasVocabularyHead = true;
      if (computed.test(name) || sizes.isTied(name)) continue;
      groups[groupOf(name)] += count;
      if (packed.test(name)) packedCount += count;
    }
    const parameters = groups.embedding + groups.layers + groups.head;
    const { nLayer, dModel, dInner, innerValues, vocabSize, memLen } = sizes;
    const tokens = batchSize * length;
    const logits = hasVocabularyHead ? vocabSize : 0;
    // Values that a layer makes for each token: projections, attention, norms and residuals of width dModel, and the inner layer's.
    // A pass frees them before the next layer, and before it computes logits; a gradient needs them all.
    const inference = tokens * Math.max(10 * dModel + dInner, dModel + logits);
    const training = tokens * (nLayer * (10 * dModel + innerValues * dInner) + 2 * logits);
    const packedHead = /xlnet/.test(String(config.model_type)) && hasVocabularyHead ? vocabSize * dModel : 0;
    return {
      architecture: architectureOf(config),
      directory,
      file: weights.path,
      parameters,
      groups,
      tensors: weights.tensors.size,
      storedBytes,
      dtypes,
      memory: {
        weightBytes: 4 * parameters,
        streamBytes: memLen === null ? null : 4 * nLayer * memLen * dModel,
        batchSize,
        length,
        inferenceBytes: 4 * (parameters + packedCount + packedHead + inference),
        trainingBytes: 4 * (4 * parameters + training),
      },
      config,
    };
  } finally {
    await weights.close();
  }
}

/** The class that a config.json names, or its model_type. */
export function architectureOf(config: Record<string, unknown>): string {
  const named = Array.isArray(config.architectures) ? (config.architectures[0] as unknown) : undefined;
  return typeof named === 'string' ? named : String(config.model_type);
}

function sizesOf(config: Record<string, unknown>, directory: string): Sizes {
  if (config.model_type === 'xlnet') {
    const sizes = xlnetConfigFromFile(config);
    return {
      ...sizes,
      memLen: sizes.memLen || null,
      innerValues: sizes.ffActivation === 'relu' ? 1 : 2,
      isTied: (name) => name === 'lm_loss.weight' && sizes.tieWordEmbeddings,
    };
  }
  if (config.model_type === 'transfo-xl') {
    const sizes = transformerXLConfigFromFile(config);
    const isTied = (name: string) => {
      const [, kind, cluster] = /^crit\.(out_layers|out_projs)\.(\d+)(?:\.weight)?$/.exec(name) ?? [];
      return kind === 'out_layers'
        ? sizes.tieWordEmbeddings
        : kind === 'out_projs' && sizes.tieProjs[Number(cluster)] === true;
    };
    return { ...sizes, innerValues: 1, isTied };
  }
  throw new XlformersError(
    'ERR_CONFIG',
    `${directory}: model_type ${describe(config.model_type)}, expected 'transfo-xl' or 'xlnet'`,
  );
}

function groupOf(name: string): keyof ModelSummary['groups'] {
  if (/(^|\.)(word_emb|word_embedding|mask_emb)(\.|$)/.test(name)) return 'embedding';
  // Biases that all layers share stand beside them.
  return /(^|\.)layers?\.\d+\.|(^|\.)r_[wr]_bias$/.test(name) ? 'layers' : 'head';
}

function elementCount({ shape }: WeightInfo): number {
  return shape.reduce((product, size) => product * size, 1);
}
