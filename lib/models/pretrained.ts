import path from 'node:path';
import { makeDirectory, writeFileAtomically } from '../checkpoints/atomicFile';
import { readConfigFile } from '../checkpoints/modelFolder';
import { writeSafetensors } from '../checkpoints/safetensors';
import { XlformersError } from '../errors';
import type { Parameters } from '../nn/parameters';

/**
/** The config.json of a model folder. @throws XlformersError ERR_FILE_*, ERR_CONFIG naming the file */
export async function readModelConfig(directory: string): Promise<Record<string, unknown>> {
  return readConfigFile(directory);
}

/**
 * What `parse` makes of a config.json.
 * @throws XlformersError ERR_CONFIG naming the file and the field
 */
export function parsedConfig<Config>(
  directory: string,
  file: Record<string, unknown>,
  parse: (file: Record<string, unknown>) => Config,
): Config {
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
