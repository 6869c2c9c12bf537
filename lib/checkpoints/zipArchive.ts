/**
 * The zip archives that PyTorch writes: stored entries, one directory, nothing else. Where a general reader is lenient (overlaps,
 * headers that disagree, compression) this one refuses. Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.5.
 */
import type { promises as fs } from 'node:fs';
import { XlformersError } from '../errors';
import { readExactly } from './readFile';

export interface ZipEntry {
  name: string;
  /** Of the local header in the file. */
  offset: number;
  size: number;
  /** Where the next entry, or the directory, begins. */
  limit: number;
}

const maxEntries = 65_535;
const maxDirectoryBytes = 64 * 2 ** 20;
const endBytes = 22;
const locatorBytes = 20;
/** Encrypted, strongly encrypted, directory encrypted. */
const encryptedFlags = 0x2041;

/**
 * Entries by name.
 * @throws XlformersError ERR_ZIP naming what is wrong
 */
export async function readZipDirectory(
  handle: fs.FileHandle,
  file: string,
  fileSize: number,
): Promise<Map<string, ZipEntry>> {
  const fail = (message: string): never => {
    throw new XlformersError('ERR_ZIP', `${file}: zip archive: ${message}`);
  };
  if (fileSize < endBytes) fail('no end of directory');
  const tailStart = Math.max(0, fileSize - endBytes - locatorBytes);
  const tail = Buffer.from(await readExactly(handle, file, tailStart, fileSize - tailStart));
  // Comments are where archives hide a second end; PyTorch writes none.
  const end = tail.length - endBytes;
  if (tail.toString('latin1', end, end + 4) !== 'PK\x05\x06') fail('does not end with its directory, or has a comment');
  if (tail.readUInt16LE(end + 20) !== 0) fail('has a comment');
  if (tail.readUInt16LE(end + 4) !== 0 || tail.readUInt16LE(end + 8) !== tail.readUInt16LE(end + 10)) {
    fail('more than one disk');
  }
  const narrow = [tail.readUInt16LE(end + 10), tail.readUInt32LE(end + 12), tail.readUInt32LE(end + 16)] as const;
  let [count, size, start] = narrow as readonly number[] as [number, number, number];
  let directoryEnd = tailStart + end;
  // PyTorch writes the zip64 record always, needed or not. What both say must agree.
  const locator = end - locatorBytes;
  if (locator >= 0 && tail.toString('latin1', locator, locator + 4) === 'PK\x06\x07') {
    const recordAt = safeNumber(tail.readBigUInt64LE(locator + 8), fail);
    if (recordAt + 56 !== tailStart + locator) fail('a zip64 record that is not where it should be');
    const record = Buffer.from(await readExactly(handle, file, recordAt, 56));
    if (record.toString('latin1', 0, 4) !== 'PK\x06\x06') fail('no zip64 record');
    const wide = [32, 40, 48].map((at) => safeNumber(record.readBigUInt64LE(at), fail)) as [number, number, number];
    wide.forEach((value, index) => {
      const short = narrow[index];
      if (short !== value && short !== (index === 0 ? 0xffff : 0xffffffff)) fail('two ends that disagree');
    });
    [count, size, start] = wide;
    directoryEnd = recordAt;
  }
  if (count > maxEntries) fail(`${count} entries, at most ${maxEntries} are read`);
  if (size > maxDirectoryBytes || start + size !== directoryEnd) fail('a directory that is not where it should be');
  const directory = Buffer.from(await readExactly(handle, file, start, size));
  const entries = withLimits(parseDirectory(directory, count, fail), start, fail);
  return new Map(entries.map((entry) => [entry.name, entry]));
}

/** Where an entry's data begin: after its local header, which must agree with the directory. */
export async function entryDataStart(handle: fs.FileHandle, file: string, entry: ZipEntry): Promise<number> {
  const fail = (message: string): never => {
    throw new XlformersError('ERR_ZIP', `${file}: zip archive: entry '${entry.name}': ${message}`);
  };
  const header = Buffer.from(await readExactly(handle, file, entry.offset, 30));
  if (header.toString('latin1', 0, 4) !== 'PK\x03\x04') fail('no local header');
  const flags = header.readUInt16LE(6);
  if ((flags & encryptedFlags) !== 0) fail('is encrypted');
  if (header.readUInt16LE(8) !== 0) fail('is compressed');
  const nameLength = header.readUInt16LE(26);
  const extraLength = header.readUInt16LE(28);
  const start = entry.offset + 30 + nameLength + extraLength;
  if (start + entry.size > entry.limit) fail('overlaps what follows it');
  const rest = Buffer.from(await readExactly(handle, file, entry.offset + 30, nameLength + extraLength));
  if (rest.toString('utf8', 0, nameLength) !== entry.name) fail('its two headers name different entries');
  // Sizes may follow the data (flag 8); where they are here or in the zip64 field, they must agree.
  if ((flags & 8) === 0) {
    const narrow = { compressed: header.readUInt32LE(18), size: header.readUInt32LE(22), offset: 0 };
    const { size, compressed } = wideFields(rest.subarray(nameLength), narrow, fail);
    if (size !== entry.size || compressed !== entry.size) fail('its two headers give different sizes');
  }
  return start;
}

type PlacedEntry = Omit<ZipEntry, 'limit'>;

function parseDirectory(directory: Buffer, count: number, fail: (message: string) => never): PlacedEntry[] {
  const entries: PlacedEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    if (at + 46 > directory.length || directory.toString('latin1', at, at + 4) !== 'PK\x01\x02') {
      fail(`directory entry ${index} is damaged`);
    }
    const nameLength = directory.readUInt16LE(at + 28);
    const extraLength = directory.readUInt16LE(at + 30);
    const commentLength = directory.readUInt16LE(at + 32);
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (next > directory.length) fail(`directory entry ${index} is cut off`);
    const name = directory.toString('utf8', at + 46, at + 46 + nameLength);
    if (/(^|\/)\.\.?(\/|$)|^\/|\\|\0/.test(name)) fail(`entry '${name}' points out of the archive`);
    if (names.has(name)) fail(`entry '${name}' appears twice`);
    names.add(name);
    if (name.includes('\ufffd')) fail(`directory entry ${index} has a name that is not UTF-8`);
    if ((directory.readUInt16LE(at + 8) & encryptedFlags) !== 0) fail(`entry '${name}' is encrypted`);
    if (directory.readUInt16LE(at + 34) !== 0) fail(`entry '${name}' is on another disk`);
    const compressed = directory.readUInt32LE(at + 20);
    const size = directory.readUInt32LE(at + 24);
    const offset = directory.readUInt32LE(at + 42);
    const extra = directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength);
    const wide = wideFields(extra, { size, compressed, offset }, fail);
    if (directory.readUInt16LE(at + 10) !== 0 || wide.size !== wide.compressed) fail(`entry '${name}' is compressed`);
    entries.push({ name, offset: wide.offset, size: wide.size });
    at = next;
  }
  if (at !== directory.length) fail('bytes after the directory');
  return entries;
}

interface WideFields {
  size: number;
  compressed: number;
  offset: number;
}

/** The zip64 field holds, in this order, what does not fit 32 bits. */
function wideFields(extra: Buffer, narrow: WideFields, fail: (message: string) => never): WideFields {
  const result = { ...narrow };
  const wanted = (['size', 'compressed', 'offset'] as const).filter((name) => narrow[name] === 0xffffffff);
  if (wanted.length === 0) return result;
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    if (extra.readUInt16LE(at + 2) < 8 * wanted.length || at + 4 + 8 * wanted.length > extra.length) break;
    wanted.forEach((name, index) => (result[name] = safeNumber(extra.readBigUInt64LE(at + 4 + 8 * index), fail)));
    return result;
  }
  return fail('a zip64 field that is missing or short');
}

/** Entries that leave room for each other's headers and data. */
function withLimits(
  entries: readonly PlacedEntry[],
  directoryStart: number,
  fail: (message: string) => never,
): ZipEntry[] {
  const sorted = [...entries].sort((a, b) => a.offset - b.offset);
  return sorted.map((entry, index) => {
    const limit = sorted[index + 1]?.offset ?? directoryStart;
    if (entry.offset + 30 + entry.size > limit) fail(`entry '${entry.name}' overlaps what follows it`);
    return { ...entry, limit };
  });
}

function safeNumber(value: bigint, fail: (message: string) => never): number {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : fail('a size that no file has');
}
