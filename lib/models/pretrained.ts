import path from 'node:path';
import { makeDirectory, writeFileAtomically } from '../checkpoints/atomicFile';
import { readConfigFile } from '../checkpoints/modelFolder';
import { toFloat32, writeSafetensors } from '../checkpoints/safetensors';
import { openWeights } from '../checkpoints/weights';
import { XlformersError } from '../errors';
import type { Parameters } from '../nn/parameters';
import { huggingFaceName } from './originalCheckpoints';

/** Weights of heads, outside the prefix `transformer.`. */
const heads =
  /^(crit|score|lm_loss|sequence_summary|logits_proj|classifier|qa_outputs|start_logits|end_logits|answer_class)\./;

/** Names that checkpoints carry and that are no weights: position frequencies, which are computed. */
const computed = /(^|\.)pos_emb\.inv_freq$/;

/** The config.json of a model folder. */
export async function readModelConfig(directory: string): Promise<Record<string, unknown>> {
  return readConfigFile(directory);
}

/**
 * Fills the parameters from the folder's weights, safetensors or PyTorch's files. Names may lack or have the prefix `transformer.` (a checkpoint of the bare model,
 * or of one with a head).
 * @param optional names that may be missing (the head of a freshly made classifier)
 * @param replaced names whose weights keep their initial values where the checkpoint has another shape (a head for other labels)
 * @throws XlformersError ERR_CHECKPOINT_MISMATCH listing missing, unexpected and mis-shaped tensors by name
 */
export async function loadWeights(
  directory: string,
  parameters: Parameters,
  ownPrefix: string,
  optional: (name: string) => boolean = () => false,
  replaced: (name: string) => boolean = () => false,
): Promise<void> {
  const file = await openWeights(directory);
  try {
    const stored = new Map([...file.tensors.keys()].filter((name) => !computed.test(name)).map((name) => [name, name]));
    const hasPrefix = [...stored.keys()].some((name) => name.startsWith('transformer.'));
    const rename = (given: string): string => {
      const name = huggingFaceName(given);
      if (hasPrefix === (ownPrefix !== '')) return name;
      if (hasPrefix) return name.replace(/^transformer\./, '');
      return heads.test(name) ? name : `transformer.${name}`;
    };
    const missing = new Set(parameters.map.keys());
    const problems: string[] = [];
    const passedOver = new Set<string>();
    for (const name of stored.keys()) {
      const parameter = parameters.find(rename(name));
      const { shape } = file.tensors.get(name) as { shape: readonly number[] };
      if (!parameter) {
        // A head that this class does not have is no defect of the checkpoint.
        if (!heads.test(name)) problems.push(`unexpected: ${name}`);
        continue;
      }
      if (shape.join() !== parameter.shape.join()) {
        if (replaced(parameter.name)) {
          missing.delete(parameter.name);
          passedOver.add(name);
          continue;
        }
        problems.push(`shape of ${name}: [${shape.join(', ')}], expected [${parameter.shape.join(', ')}]`);
        continue;
      }
      missing.delete(parameter.name);
    }
    for (const name of missing) if (!optional(name)) problems.push(`missing: ${name}`);
    if (problems.length > 0) {
      throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${directory}: ${problems.join('; ')}`);
    }
    for (const name of stored.keys()) {
      const parameter = parameters.find(rename(name));
      const entry = file.tensors.get(name);
      if (!parameter || !entry || passedOver.has(name)) continue;
      const values = toFloat32(await file.read(name), entry.dtype);
      parameter.overwrite(parameter.dtype === 'float64' ? Float64Array.from(values) : values);
    }
  } finally {
    await file.close();
  }
}

/** Writes config.json and model.safetensors, as Hugging Face's classes load them. */
export async function saveModel(
  directory: string,
  parameters: Parameters,
  config: Record<string, unknown>,
): Promise<void> {
  await makeDirectory(directory);
  const entries = [];
  for (const [name, parameter] of parameters.map) {
    const data = await parameter.data();
    entries.push({
      name,
      dtype: parameter.dtype === 'float64' ? ('F64' as const) : ('F32' as const),
      shape: [...parameter.shape],
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    });
  }
  await writeSafetensors(path.join(directory, 'model.safetensors'), entries, { format: 'pt' });
  await writeFileAtomically(path.join(directory, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}
