/**
 * State dicts of the original repository (pytorch/mem_transformer.py) and of NVIDIA's: no prefix `transformer.`, position biases that all layers
 * share, cluster columns that are counted from the last, and in NVIDIA's other names in the softmax.
 */
import { openWeights } from '../checkpoints/weights';
import { XlformersError, describe } from '../errors';
import { compatibilityRules } from './compatibility';
import type { TransformerXLConfig } from './transformerXLConfig';

const nvidiaNames: [pattern: RegExp, name: string][] = [
  [/^crit\.out_layers_biases\.(\d+)$/, 'crit.out_layers.$1.bias'],
  [/^crit\.out_layers_weights\.(\d+)$/, 'crit.out_layers.$1.weight'],
  // The embedding's projections once more.
  [/^crit\.shared_out_projs\.(\d+)$/, 'word_emb.emb_projs.$1'],
];

/** A tensor's name as Hugging Face has it, but for the prefix. */
export function huggingFaceName(name: string): string {
  const found = nvidiaNames.find(([pattern]) => pattern.test(name));
  return found === undefined ? name : name.replace(...found);
}

/**
 * A language model's weights from those repositories mean something else under another preset: no shape would tell.
 * @throws XlformersError ERR_CONFIG saying what to write into config.json
 */
export async function requireOriginalSettings(directory: string, config: TransformerXLConfig): Promise<void> {
  const file = await openWeights(directory);
  const names = [...file.tensors.keys()];
  await file.close();
  if (names.some((name) => name.startsWith('transformer.')) || !names.some((name) => name.startsWith('crit.'))) return;
  const refuse = (field: string, given: unknown, expected: string): never => {
    throw new XlformersError(
      'ERR_CONFIG',
      `${directory}: the weights in ${file.path} have the names of the original repository (or of NVIDIA's), for which ${field} in config.json ` +
        `must be ${expected}; got ${describe(given)}`,
    );
  };
  if (names.includes('crit.cluster_weight') && !compatibilityRules[config.compatibility].reversedClusters) {
    refuse('xlformers_compatibility', config.compatibility, "'pytorch-original' or 'nvidia'");
  }
  if (names.includes('r_w_bias') && config.untieR) refuse('untie_r', true, 'false');
}
