import path from 'node:path';
import { noGrad } from '../autograd';
import { makeDirectory, writeFileAtomically } from '../checkpoints/atomicFile';
import { readConfigFile } from '../checkpoints/modelFolder';
import { writeSafetensorsStream } from '../checkpoints/safetensors';
import { floatTypes } from '../checkpoints/safetensorsHeader';
import type { FloatDType } from '../dtype';
import { XlformersError, argumentError } from '../errors';
import type { Parameters } from '../nn/parameters';
import { cast } from '../ops/cast';
import type { Parameter } from '../tensor';

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

/**
 * Writes config.json and model.safetensors, as Hugging Face's classes load them, a weight at a time.
 * @param dtype of the file
 */
export async function saveModel(
  directory: string,
  parameters: Parameters,
  config: Readonly<Record<string, unknown>>,
  dtype: FloatDType,
): Promise<void> {
  if (!Object.hasOwn(floatTypes, dtype)) {
    throw argumentError('ERR_ARG_TYPE', 'dtype', dtype, 'float32, float64, bfloat16 or float16');
  }
  await makeDirectory(directory);
  const tensors = new Map(
    Array.from(parameters.map, ([name, { shape }]) => [name, { dtype: floatTypes[dtype], shape }] as const),
  );
  const read = async (name: string): Promise<Uint8Array> => {
    const converted = noGrad(() => cast(parameters.map.get(name) as Parameter, dtype));
    try {
      return await converted.bytes();
    } finally {
      converted.dispose();
    }
  };
  await writeSafetensorsStream(path.join(directory, 'model.safetensors'), tensors, read, { format: 'pt' });
  const file = JSON.stringify({ ...config, dtype }, null, 2);
  await writeFileAtomically(path.join(directory, 'config.json'), `${file}\n`);
}
