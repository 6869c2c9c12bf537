import type { promises as fs } from 'node:fs';
import { fromShortFloat } from '../dtype';
import { XlformersError, describe } from '../errors';
import { writeAtomically } from './atomicFile';
import { openRegularFile, readExactly, readPieces } from './readFile';
import {
  type SafetensorsDType,
  type SafetensorsEntryInfo,
  dtypeBytes,
  headerLength,
  parseHeader,
} from './safetensorsHeader';

export type { SafetensorsDType, SafetensorsEntryInfo } from './safetensorsHeader';

/** A tensor to be written: its bytes are little-endian, row-major. */
export interface SafetensorsEntry {
  name: string;
  dtype: SafetensorsDType;
  shape: readonly number[];
  data: Uint8Array;
}

/** An open file: header in memory, tensors read one by one. */
export class SafetensorsFile {
  /** @internal */
  constructor(
    readonly path: string,
    readonly tensors: ReadonlyMap<string, SafetensorsEntryInfo>,
    readonly metadata: ReadonlyMap<string, string>,
    private readonly dataStart: number,
    private readonly handle: fs.FileHandle,
  ) {}

  /**
   * The bytes of a tensor, in memory of their own.
   * @throws XlformersError ERR_CHECKPOINT_MISMATCH when there is none of that name, ERR_FILE_READ when the file got shorter
   */
  read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.entry(name);
    return readExactly(this.handle, this.path, this.dataStart + begin, end - begin);
  }

  /** @internal The same piece by piece; see `WeightsFile.pieces`. */
  pieces(name: string): AsyncIterable<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.entry(name);
    return readPieces(this.handle, this.path, this.dataStart + begin, end - begin);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private entry(name: string): SafetensorsEntryInfo {
    const entry = this.tensors.get(name);
    if (!entry) throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${this.path}: no tensor '${name}'`);
    return entry;
  }
}

/**
 * Opens a file and checks its header completely; reads no data yet.
 * @throws XlformersError ERR_FILE_*, ERR_SAFETENSORS_* naming the file and what is wrong
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const { handle, size } = await openRegularFile(path);
  try {
    const first = size >= 8 ? await readExactly(handle, path, 0, 8) : new Uint8Array(8);
    const length = headerLength(path, first, size);
    const header = parseHeader(path, await readExactly(handle, path, 8, length), size);
    return new SafetensorsFile(path, header.tensors, header.metadata, header.dataStart, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Writes a file at once or not at all. Tensors are ordered by type width, then name, as the reference implementation does, so the
 * same tensors give the same bytes.
 * @throws XlformersError ERR_SAFETENSORS_NAME, ERR_SAFETENSORS_SIZE, ERR_SAFETENSORS_DUPLICATE_KEY, ERR_FILE_WRITE
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<SafetensorsEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, (handle) => writeTo(handle, path, entries, metadata));
}

/**
 * The same, for tensors too large to be in memory together: each is read when its turn comes.
 * @throws XlformersError as writeSafetensors
 */
export async function writeSafetensorsStream(
  path: string,
  tensors: ReadonlyMap<string, { dtype: SafetensorsDType; shape: readonly number[] }>,
  read: (name: string) => Promise<Uint8Array>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, async (handle) => {
    const sorted = sortedEntries([...tensors].map(([name, info]) => ({ name, ...info })));
    const { header, sizes } = makeHeader(path, sorted, metadata);
    await writeAll(handle, header);
    for (const { name } of sorted) {
      const data = await read(name);
      requireSize(path, name, data, sizes.get(name) as number);
      await writeAll(handle, data);
    }
  });
}

/** @internal Writes to an open file; the caller syncs it. */
export async function writeTo(
  handle: fs.FileHandle,
  path: string,
  entries: Iterable<SafetensorsEntry>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const sorted = sortedEntries([...entries]);
  const { header, sizes } = makeHeader(path, sorted, metadata);
  for (const { name, data } of sorted) requireSize(path, name, data, sizes.get(name) as number);
  await writeAll(handle, header);
  for (const { data } of sorted) await writeAll(handle, data);
}

type EntryInfo = Omit<SafetensorsEntry, 'data'>;

function sortedEntries<T extends EntryInfo>(entries: T[]): T[] {
  return entries.sort(
    (a, b) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
}

/** The header of tensors in this order, and their sizes in bytes. */
function makeHeader(
  path: string,
  entries: readonly EntryInfo[],
  metadata: Readonly<Record<string, string>>,
): { header: Buffer; sizes: Map<string, number> } {
  // Written out by hand: as a property of an object, a tensor named "__proto__" would vanish.
  const members: string[] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const sizes = new Map<string, number>();
  let position = 0;
  for (const { name, dtype, shape } of entries) {
    if (name === '__metadata__' || name.length > 1024 || name.includes('\0')) {
      throw new XlformersError('ERR_SAFETENSORS_NAME', `${path}: ${describe(name)} cannot name a tensor`);
    }
    if (sizes.has(name))
      throw new XlformersError('ERR_SAFETENSORS_DUPLICATE_KEY', `${path}: tensor '${name}' given twice`);
    const bytes = shape.reduce((product, size) => product * size, dtypeBytes[dtype]);
    const offsets = [position, position + bytes];
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`);
    sizes.set(name, bytes);
    position += bytes;
  }
  const json = Buffer.from(`{${members.join(',')}}`, 'utf8');
  // Spaces align the data to 8 bytes.
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  json.copy(header, 8);
  return { header, sizes };
}

function requireSize(path: string, name: string, data: Uint8Array, expected: number): void {
  if (data.byteLength === expected) return;
  throw new XlformersError(
    'ERR_SAFETENSORS_SIZE',
    `${path}: tensor '${name}': got ${data.byteLength} bytes, expected ${expected} for its type and shape`,
  );
}

async function writeAll(handle: fs.FileHandle, data: Uint8Array): Promise<void> {
  const largest = 2 ** 30;
  for (let done = 0; done < data.byteLength;) {
    const { bytesWritten } = await handle.write(data, done, Math.min(largest, data.byteLength - done));
    done += bytesWritten;
  }
}

/**
 * Values as float32, whatever floating type they were stored in.
 * @param bytes in memory of their own, as `read` gives them
 * @throws XlformersError ERR_SAFETENSORS_DTYPE for integers
 */
export function toFloat32(bytes: Uint8Array<ArrayBuffer>, dtype: SafetensorsDType): Float32Array<ArrayBuffer> {
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    case 'F64':
      return Float32Array.from(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8));
    case 'BF16':
    case 'F16':
      return fromShortFloat(
        new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2),
        dtype === 'BF16' ? 'bfloat16' : 'float16',
      );
    default:
      throw new XlformersError(
        'ERR_SAFETENSORS_DTYPE',
        `dtype: got ${dtype}, expected F64, F32, F16 or BF16 for a weight`,
      );
  }
}
