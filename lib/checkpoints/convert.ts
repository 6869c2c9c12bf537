/** Checkpoints from one format and element type to another, a tensor at a time. */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError } from '../errors';
import { toFloat32, writeSafetensorsStream } from './safetensors';
import type { SafetensorsDType } from './safetensorsHeader';
import { writeTorchCheckpoint } from './torchWriter';
import { openWeights, type WeightInfo } from './weights';

export interface ConvertOptions {
  /** Default 'safetensors'. */
  format?: 'safetensors' | 'bin';
  /** Element type of floating tensors. Default: as they are. */
  dtype?: 'float32' | 'float16' | 'bfloat16';
  onProgress?: (progress: { tensor: string; index: number; count: number }) => void;
  signal?: AbortSignal;
}

export interface ConvertReport {
  file: string;
  tensors: number;
  bytes: number;
}

const fileTypes = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
const floating = new Set<SafetensorsDType>(['F64', 'F32', 'F16', 'BF16']);
/** What goes with a model and is copied as it stands. */
const companions =
  /^(config|tokenizer|tokenizer_config|special_tokens_map|generation_config)\.json$|^spiece\.model$|^vocab\.(txt|bin|pkl)$/;

/**
 * Writes the model of a folder into another one.
 * @throws XlformersError ERR_CHECKPOINT_EXISTS when the target file is there already, the errors of the source's format
 */
export async function convertCheckpoint(
  source: string,
  target: string,
  { format = 'safetensors', dtype, onProgress, signal }: ConvertOptions = {},
): Promise<ConvertReport> {
  const file = path.join(target, format === 'safetensors' ? 'model.safetensors' : 'pytorch_model.bin');
  await fs.mkdir(target, { recursive: true });
  try {
    await fs.access(file);
  } catch {
    return convertTo(file);
  }
  throw new XlformersError('ERR_CHECKPOINT_EXISTS', `${file}: is there already; choose another folder`);

  async function convertTo(out: string): Promise<ConvertReport> {
    const weights = await openWeights(source);
    try {
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
      await copyCompanions(source, target);
      return { file: out, tensors: tensors.size, bytes };
    } finally {
      await weights.close();
    }
  }
}

async function copyCompanions(source: string, target: string): Promise<void> {
  if (path.resolve(source) === path.resolve(target)) return;
  for (const name of await fs.readdir(source)) {
    if (companions.test(name)) await fs.copyFile(path.join(source, name), path.join(target, name));
  }
}

/** Rounded to nearest, ties to even. */
function fromFloat32(values: Float32Array<ArrayBuffer>, dtype: SafetensorsDType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const half = Uint16Array.from(bits, dtype === 'BF16' ? toBfloat16 : toFloat16);
  return new Uint8Array(half.buffer);
}

function toBfloat16(bits: number): number {
  const isNaN = (bits & 0x7fffffff) > 0x7f800000;
  return isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function toFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  const exponent = (magnitude >>> 23) - 112;
  if (exponent > 0) {
    const rounded = magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1);
    return sign | (rounded >>> 13);
  }
  if (exponent < -10) return sign;
  // Below the normal range: the implicit bit moves into the fraction.
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const shift = 14 - exponent;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (kept + (rest > tie || (rest === tie && (kept & 1) === 1) ? 1 : 0));
}
