/** Checkpoints from one format and element type to another, a tensor at a time. */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { toShortFloat } from '../dtype';
import { XlformersError, argumentError } from '../errors';
import { writeFileAtomically } from './atomicFile';
import { readConfigFile } from './modelFolder';
import { isDirectory } from './readFile';
import { toFloat32, writeSafetensorsStream } from './safetensors';
import { floatTypes, type SafetensorsDType } from './safetensorsHeader';
import { writeTorchCheckpoint } from './torchWriter';
import { exists, openFile, openWeights, type WeightInfo } from './weights';

export interface ConvertOptions {
  /** Default: by the ending of a target file, 'safetensors' for a folder. */
  format?: 'safetensors' | 'bin';
  /** Element type of floating tensors. Default: as they are. */
  dtype?: 'float32' | 'float16' | 'bfloat16';
  /** Whether files of the target may be replaced. Default false. */
  overwrite?: boolean;
  onProgress?: (progress: { tensor: string; index: number; count: number }) => void;
  signal?: AbortSignal;
}

export interface ConvertReport {
  file: string;
  tensors: number;
  bytes: number;
}

const { float64: _, ...fileTypes } = floatTypes;
const fileNames = { safetensors: 'model.safetensors', bin: 'pytorch_model.bin' } as const;
const floating = new Set<SafetensorsDType>(['F64', 'F32', 'F16', 'BF16']);
/** What goes with a model and is copied as it stands. */
const companions =
  /^(config|tokenizer|tokenizer_config|special_tokens_map|generation_config)\.json$|^spiece\.model$|^vocab\.(txt|bin|pkl)$/;

/**
 * Writes the weights of a folder or file into another one; from folder to folder, configuration and tokenizer go with them.
 * @param target a name that ends in .safetensors or .bin is a file, any other a folder
 * @throws XlformersError ERR_CHECKPOINT_EXISTS when a file of the target is there already, the errors of the source's format
 */
export async function convertCheckpoint(
  source: string,
  target: string,
  options: ConvertOptions = {},
): Promise<ConvertReport> {
  const { dtype, overwrite = false, onProgress, signal } = options;
  if (dtype !== undefined && !Object.hasOwn(fileTypes, dtype)) {
    throw argumentError('ERR_ARG_RANGE', 'dtype', dtype, 'float32, float16 or bfloat16');
  }
  const { file: out, format, folder } = targetOf(target, options.format);
  const sourceFolder = await isDirectory(source);
  const copied = sourceFolder && folder !== null ? await companionsOf(source, folder) : [];
  if (!overwrite) {
    for (const file of [out, ...copied.map((name) => path.join(target, name))]) {
      if (!(await exists(file))) continue;
      throw new XlformersError(
        'ERR_CHECKPOINT_EXISTS',
        `${file}: is there already; choose another target, or overwrite it (--force)`,
      );
    }
  }
  const weights = await (sourceFolder ? openWeights(source) : openFile(source));
  try {
    if (folder !== null) await fs.mkdir(folder, { recursive: true });
    const wanted = (info: WeightInfo): WeightInfo =>
      dtype && floating.has(info.dtype) ? { ...info, dtype: fileTypes[dtype] } : info;
    const tensors = new Map([...weights.tensors].map(([name, info]) => [name, wanted(info)]));
    let index = 0;
    let bytes = 0;
    const read = async (name: string): Promise<Uint8Array> => {
      signal?.throwIfAborted();
      onProgress?.({ tensor: name, index: index++, count: tensors.size });
      const from = (weights.tensors.get(name) as WeightInfo).dtype;
      const to = (tensors.get(name) as WeightInfo).dtype;
      const data = await weights.read(name);
      const converted = from === to ? data : fromFloat32(toFloat32(data, from), to);
      bytes += converted.byteLength;
      return converted;
    };
    if (format === 'safetensors') await writeSafetensorsStream(out, tensors, read, { format: 'pt' });
    else await writeTorchCheckpoint(out, tensors, read);
    for (const name of copied) await copyCompanion(path.join(source, name), path.join(target, name));
    if (dtype && folder !== null) await recordType(path.join(folder, 'config.json'), dtype);
    return { file: out, tensors: tensors.size, bytes };
  } finally {
    await weights.close();
  }
}

/** The file to write, and its folder where the target is one. */
function targetOf(
  target: string,
  wanted: ConvertOptions['format'],
): { file: string; format: 'safetensors' | 'bin'; folder: string | null } {
  if (wanted !== undefined && !Object.hasOwn(fileNames, wanted)) {
    throw argumentError('ERR_ARG_RANGE', 'format', wanted, 'safetensors or bin');
  }
  const ending = (['safetensors', 'bin'] as const).find((format) => target.endsWith(`.${format}`));
  if (ending === undefined) {
    const format = wanted ?? 'safetensors';
    return { file: path.join(target, fileNames[format]), format, folder: target };
  }
  if (wanted !== undefined && wanted !== ending) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `format: got '${wanted}' for ${target}, expected '${ending}' as its name says`,
    );
  }
  return { file: target, format: ending, folder: null };
}

async function companionsOf(source: string, folder: string): Promise<string[]> {
  if (path.resolve(source) === path.resolve(folder)) return [];
  return (await fs.readdir(source)).filter((name) => companions.test(name));
}

/** Names in the hub's cache are links; what is copied is the file. */
async function copyCompanion(from: string, to: string): Promise<void> {
  await writeFileAtomically(to, await fs.readFile(from));
}

/** config.json says which element type its weights have; Hugging Face's classes may load them as that. */
async function recordType(file: string, dtype: string): Promise<void> {
  if (!(await exists(file))) return;
  const config = await readConfigFile(path.dirname(file));
  const name = 'torch_dtype' in config && !('dtype' in config) ? 'torch_dtype' : 'dtype';
  await writeFileAtomically(file, `${JSON.stringify({ ...config, [name]: dtype }, null, 2)}\n`);
}

/** Rounded to nearest, ties to even. */
function fromFloat32(values: Float32Array<ArrayBuffer>, dtype: SafetensorsDType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return new Uint8Array(toShortFloat(values, dtype === 'BF16' ? 'bfloat16' : 'float16').buffer);
}
