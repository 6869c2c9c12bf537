import { promises as fs } from 'node:fs';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoints/atomicFile';
import { readConfigFile } from '../checkpoints/modelFolder';
import { writeSafetensors } from '../checkpoints/safetensors';
import { XlformersError } from '../errors';
import type { Parameters } from '../nn/parameters';

/**
 * The configuration of a model folder.
 * @throws XlformersError ERR_FILE_*, ERR_CONFIG naming the file and the field
 */
export async function readModelConfig<Config>(
  directory: string,
  parse: (file: Record<string, unknown>) => Config,
): Promise<Config> {
  const file = await readConfigFile(directory);
  try {
    return parse(file);
  } catch (error) {
    if (!(error instanceof XlformersError) || error.code !== 'ERR_CONFIG') throw error;
    throw new XlformersError('ERR_CONFIG', `${path.join(directory, 'config.json')}: ${error.message}`, {
      cause: error,
    });
  }
}

/** Writes config.json and model.safetensors, as Hugging Face's classes load them. */
export async function saveModel(
  directory: string,
  parameters: Parameters,
  config: Record<string, unknown>,
): Promise<void> {
  await fs.mkdir(directory, { recursive: true });
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
