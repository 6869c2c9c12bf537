/**
 * PyTorch checkpoints: the zip format since 1.6 and the older one. Only tensors are read, one at a time; the pickle inside is
 * interpreted by a machine that executes nothing (unpickle.ts).
 */
import type { promises as fs } from 'node:fs';
import { XlformersError } from '../errors';
import { openRegularFile, readExactly, readPieces } from './readFile';
import { dtypeBytes } from './safetensorsHeader';
import { gather, span, stateDict, storageOf, type TorchStorage, type TorchTensor, torchGlobals } from './torchTensors';
import { type PickleGlobal, type PickleValue, unpickle } from './unpickle';
import { entryDataStart, readZipDirectory } from './zipArchive';
import type { WeightsFile, WeightInfo } from './weights';

/** A pickle of tensors' names and shapes is a few hundred kilobytes. */
const maxPickleBytes = 256 * 2 ** 20;

/** Of files that hold words rather than tensors: a dictionary of short words takes 20 times their bytes. */
const memoryPerByte = 24;

/** Where the bytes of a storage lie. */
type StorageStart = (storage: TorchStorage) => Promise<number>;

/** What a file was made from, and where its storages are. */
interface TorchFile {
  root: PickleValue;
  storageStart: StorageStart;
}

type Globals = ReadonlyMap<string, PickleGlobal>;

class TorchCheckpoint implements WeightsFile {
  readonly tensors: ReadonlyMap<string, WeightInfo>;

  constructor(
    readonly path: string,
    private readonly handle: fs.FileHandle,
    private readonly entries: ReadonlyMap<string, TorchTensor>,
    private readonly storageStart: StorageStart,
  ) {
    this.tensors = new Map([...entries].map(([name, { shape, storage }]) => [name, { shape, dtype: storage.dtype }]));
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const tensor = this.entry(name);
    const { position, length } = await this.place(tensor);
    const bytes = await readExactly(this.handle, this.path, position, length);
    return isContiguous(tensor) ? bytes : gather(tensor, bytes);
  }

  async *pieces(name: string): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const tensor = this.entry(name);
    if (!isContiguous(tensor)) return yield await this.read(name);
    const { position, length } = await this.place(tensor);
    yield* readPieces(this.handle, this.path, position, length);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private entry(name: string): TorchTensor {
    const tensor = this.entries.get(name);
    if (!tensor) throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${this.path}: no tensor '${name}'`);
    return tensor;
  }

  /** The bytes of the file that a tensor spans. */
  private async place(tensor: TorchTensor): Promise<{ position: number; length: number }> {
    const width = dtypeBytes[tensor.storage.dtype];
    const { begin, end } = span(tensor);
    const start = await this.storageStart(tensor.storage);
    return { position: start + begin * width, length: (end - begin) * width };
  }
}

/**
 * Opens a `.bin` or `.pt` file and reads the names, shapes and places of its tensors.
 * @throws XlformersError ERR_FILE_*, ERR_ZIP, ERR_PICKLE_*, ERR_TORCH_* naming file and reason
 */
export async function openTorchCheckpoint(path: string): Promise<WeightsFile> {
  const { handle, size } = await openRegularFile(path);
  try {
    const { root, storageStart } = (await isZip(path, handle, size))
      ? await readZip(path, handle, size, torchGlobals)
      : await readLegacy(path, handle, size, torchGlobals);
    const tensors = stateDict(path, root);
    // Every storage is where it should be before anything is read.
    for (const { storage } of tensors.values()) await storageStart(storage);
    return new TorchCheckpoint(path, handle, tensors, storageStart);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The value in a file of `torch.save` or of `pickle.dump`, where that is no checkpoint of tensors.
 * @param globals harmless names by "module name", besides collections of the standard library
 * @throws XlformersError ERR_FILE_*, ERR_ZIP, ERR_PICKLE_*, ERR_TORCH_* naming file and reason
 */
export async function readPickledValue(path: string, globals: Globals): Promise<PickleValue> {
  const { handle, size } = await openRegularFile(path);
  try {
    if (await isZip(path, handle, size)) return (await readZip(path, handle, size, globals)).root;
    if (size > maxPickleBytes) {
      throw new XlformersError('ERR_PICKLE_LIMIT', `${path}: has ${size} bytes, expected at most ${maxPickleBytes}`);
    }
    const bytes = await readExactly(handle, path, 0, size);
    const { value, end } = unpickle(bytes, { file: path, globals, memoryPerByte });
    if (value === legacyMagic) return (await readLegacy(path, handle, size, globals)).root;
    if (end !== size) throw new XlformersError('ERR_PICKLE_STACK', `${path}: ${size - end} bytes follow the pickle`);
    return value;
  } finally {
    await handle.close();
  }
}

async function isZip(path: string, handle: fs.FileHandle, size: number): Promise<boolean> {
  return size >= 4 && Buffer.from(await readExactly(handle, path, 0, 4)).toString('latin1') === 'PK\x03\x04';
}

async function readZip(path: string, handle: fs.FileHandle, size: number, globals: Globals): Promise<TorchFile> {
  const entries = await readZipDirectory(handle, path, size);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length !== 1) {
    throw new XlformersError('ERR_TORCH', `${path}: got ${pickles.length} entries */data.pkl, expected one`);
  }
  const [pickle] = pickles as [string];
  const prefix = pickle.slice(0, -'data.pkl'.length);
  const readEntry = async (name: string, limit: number): Promise<Uint8Array | null> => {
    const entry = entries.get(name);
    if (!entry) return null;
    if (entry.size > limit) throw new XlformersError('ERR_TORCH', `${path}: entry '${name}' has ${entry.size} bytes`);
    return readExactly(handle, path, await entryDataStart(handle, path, entry), entry.size);
  };
  const order = await readEntry(`${prefix}byteorder`, 16);
  if (order && Buffer.from(order).toString('latin1') !== 'little') {
    throw new XlformersError('ERR_TORCH_UNSUPPORTED', `${path}: its numbers are big-endian, expected little-endian`);
  }
  const bytes = (await readEntry(pickle, maxPickleBytes)) as Uint8Array;
  const { value: root, end } = unpickle(bytes, { file: path, globals, persistentLoad: storageOf });
  if (end !== bytes.length) {
    throw new XlformersError('ERR_PICKLE_STACK', `${path}: ${bytes.length - end} bytes after the end of '${pickle}'`);
  }
  const storageStart: StorageStart = async (storage) => {
    const name = `${prefix}data/${storage.key}`;
    const entry = entries.get(name);
    const expected = storage.size * dtypeBytes[storage.dtype];
    if (entry?.size !== expected) {
      throw new XlformersError(
        'ERR_TORCH_STORAGE',
        `${path}: storage '${storage.key}': got ${entry ? `${entry.size} bytes` : 'no entry'}, expected ${expected} bytes`,
      );
    }
    return entryDataStart(handle, path, entry);
  };
  return { root, storageStart };
}

const legacyMagic = 0x1950a86a20f9469cfc6cn;
const legacyProtocol = 1001;

/** Five pickles (magic number, protocol, system, objects, storage keys), then each storage: its elements as int64, its bytes. */
async function readLegacy(path: string, handle: fs.FileHandle, size: number, globals: Globals): Promise<TorchFile> {
  // Where the pickles end is not written anywhere: more is read until they fit.
  for (let length = Math.min(size, 2 ** 20); ; length = Math.min(size, maxPickleBytes, 16 * length)) {
    try {
      return await readLegacyHead(path, handle, size, globals, await readExactly(handle, path, 0, length));
    } catch (error) {
      const isTooShort = error instanceof XlformersError && error.code === 'ERR_PICKLE_TRUNCATED';
      if (!isTooShort || length === Math.min(size, maxPickleBytes)) throw error;
    }
  }
}

async function readLegacyHead(
  path: string,
  handle: fs.FileHandle,
  size: number,
  globals: Globals,
  head: Uint8Array,
): Promise<TorchFile> {
  const fail = (message: string): never => {
    throw new XlformersError('ERR_TORCH_LEGACY', `${path}: ${message}`);
  };
  let position = 0;
  const storages = new Map<string, TorchStorage>();
  const next = (): PickleValue => {
    const { value, end } = unpickle(head.subarray(position), {
      file: path,
      globals,
      persistentLoad: (id, refuse) => {
        const storage = storageOf(id, refuse);
        const known = storages.get(storage.key);
        if (known && (known.dtype !== storage.dtype || known.size !== storage.size)) {
          return refuse(`storage '${storage.key}' is described twice, differently`);
        }
        storages.set(storage.key, known ?? storage);
        return known ?? storage;
      },
    });
    position += end;
    return value;
  };
  if (head[0] !== 0x80) fail('is neither a zip archive nor a pickle: no PyTorch file');
  if (next() !== legacyMagic) fail('does not start with the magic number of PyTorch files');
  if (next() !== legacyProtocol) fail(`is not of protocol ${legacyProtocol}`);
  const system = next();
  if (!(system instanceof Map) || system.get('little_endian') !== true)
    fail('was not written on a little-endian machine');
  const root = next();
  const keys = next();
  if (!Array.isArray(keys) || keys.length !== storages.size || new Set(keys).size !== keys.length) {
    return fail('its list of storages does not fit the tensors');
  }
  const starts = new Map<string, number>();
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (!storage) return fail(`storage '${String(key)}' belongs to no tensor`);
    if (position + 8 > size) fail('ends within its storages');
    const count = Buffer.from(await readExactly(handle, path, position, 8)).readBigInt64LE(0);
    if (count !== BigInt(storage.size))
      fail(`storage '${storage.key}' has ${count} elements, expected ${storage.size}`);
    starts.set(storage.key, position + 8);
    position += 8 + storage.size * dtypeBytes[storage.dtype];
  }
  if (position !== size) fail(`has ${size} bytes, expected ${position}`);
  return { root, storageStart: (storage) => Promise.resolve(starts.get(storage.key) as number) };
}

function isContiguous({ shape, strides }: TorchTensor): boolean {
  let run = 1;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    if (shape[axis] !== 1 && strides[axis] !== run) return shape.includes(0);
    run *= shape[axis] as number;
  }
  return true;
}
