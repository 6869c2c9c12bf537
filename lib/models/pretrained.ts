import { promises as fs } from 'node:fs';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoints/atomicFile';
import { readConfigFile } from '../checkpoints/modelFolder';
import { writeSafetensors } from '../checkpoints/safetensors';
import type { Parameters } from '../nn/parameters';

/** The config.json of a model folder. */
export async function readModelConfig(directory: string): Promise<Record<string, unknown>> {
  return readConfigFile(directory);
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
