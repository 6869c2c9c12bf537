/** The weights of a model folder, whatever files they are in. */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError, describe } from '../errors';
import { JsonProblem, type JsonValue, scanJson } from './jsonScanner';
import { readTextFile } from './modelFolder';
import { openSafetensors } from './safetensors';
import type { SafetensorsDType } from './safetensorsHeader';
import { openTorchCheckpoint } from './torchCheckpoint';

export interface WeightInfo {
  dtype: SafetensorsDType;
  shape: readonly number[];
}

/** Tensors by name, read one by one. */
export interface WeightsFile {
  /** For messages. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  /** The bytes of a tensor, little-endian, row-major, in memory of their own. */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /** The same bytes piece by piece, whole elements each; a piece is to be used before the one after the next is asked for. */
  pieces(name: string): AsyncIterable<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** Files of weights, in the order in which they are looked for. */
export const weightFiles = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  // As the original Transformer-XL's training script names it.
  'model.pt',
] as const;

const maxIndexBytes = 64 * 2 ** 20;
/** All are open at once. */
const maxShards = 1000;
const maxIndexKeys = 1_000_000;

/**
 * Opens the weights of a folder: safetensors before PyTorch's files, one file before several.
 * @throws XlformersError ERR_FILE_NOT_FOUND naming what was looked for, and the errors of each format
 */
export async function openWeights(directory: string): Promise<WeightsFile> {
  for (const name of weightFiles) {
    const file = path.join(directory, name);
    if (!(await exists(file))) continue;
    if (name.endsWith('.json')) return openShards(directory, name);
    return openFile(file);
  }
  throw new XlformersError('ERR_FILE_NOT_FOUND', `${directory}: no weights; looked for ${weightFiles.join(', ')}`);
}

/** One file, by the end of its name. */
export function openFile(file: string): Promise<WeightsFile> {
  return file.endsWith('.safetensors') ? openSafetensors(file) : openTorchCheckpoint(file);
}

/** Several files and the index that says which tensor is where. */
async function openShards(directory: string, indexName: string): Promise<WeightsFile> {
  const indexFile = path.join(directory, indexName);
  const shards = new Map<string, WeightsFile>();
  const closeAll = async () => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    const places = await weightMap(indexFile);
    for (const name of new Set(places.values())) shards.set(name, await openFile(path.join(directory, name)));
    const tensors = new Map<string, WeightInfo>();
    for (const [name, shardName] of places) {
      const info = (shards.get(shardName) as WeightsFile).tensors.get(name);
      if (!info) {
        throw new XlformersError('ERR_CHECKPOINT_INDEX', `${indexFile}: '${shardName}' has no tensor '${name}'`);
      }
      tensors.set(name, info);
    }
    for (const [shardName, shard] of shards) {
      for (const name of shard.tensors.keys()) {
        if (places.get(name) === shardName) continue;
        const problem = places.has(name) ? 'is in two files' : 'is not in the index';
        throw new XlformersError('ERR_CHECKPOINT_INDEX', `${indexFile}: tensor '${name}' of '${shardName}' ${problem}`);
      }
    }
    const shardOf = (name: string): WeightsFile => {
      const shard = shards.get(places.get(name) ?? '');
      if (!shard) throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${indexFile}: no tensor '${name}'`);
      return shard;
    };
    return {
      path: indexFile,
      tensors,
      read: (name) => shardOf(name).read(name),
      pieces: (name) => shardOf(name).pieces(name),
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/**
 * The files that an index names.
 * @throws XlformersError ERR_PATH for names that lead elsewhere, ERR_CHECKPOINT_INDEX, ERR_FILE_*
 */
export async function indexedFiles(indexFile: string): Promise<string[]> {
  return [...new Set((await weightMap(indexFile)).values())];
}

/** File names by tensor: plain names inside the folder, nothing that leads elsewhere. */
async function weightMap(indexFile: string): Promise<Map<string, string>> {
  const fail = (problem: string): never => {
    throw new XlformersError('ERR_CHECKPOINT_INDEX', `${indexFile}: ${problem}`);
  };
  let index: JsonValue;
  try {
    const text = await readTextFile(indexFile, maxIndexBytes, 'ERR_CHECKPOINT_INDEX');
    index = scanJson(text, { maxDepth: 8, maxKeys: maxIndexKeys, maxItems: maxShards });
  } catch (error) {
    return error instanceof JsonProblem ? fail(error.message) : Promise.reject(error as Error);
  }
  const map = index instanceof Map ? index.get('weight_map') : undefined;
  if (!(map instanceof Map)) return fail(`weight_map: got ${describe(map)}, expected an object`);
  const places = new Map<string, string>();
  for (const [name, file] of map) {
    if (typeof file !== 'string' || !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,250}\.(safetensors|bin)$/.test(file)) {
      throw new XlformersError(
        'ERR_PATH',
        `${indexFile}: '${name}' is in ${describe(file)}, expected a plain file name`,
      );
    }
    places.set(name, file);
  }
  const count = new Set(places.values()).size;
  return count > 0 && count <= maxShards ? places : fail(`got ${count} files, expected 1 ... ${maxShards}`);
}

/** Whether something of that name is there, a broken link included. */
export async function exists(file: string): Promise<boolean> {
  try {
    await fs.lstat(file);
    return true;
  } catch {
    return false;
  }
}
