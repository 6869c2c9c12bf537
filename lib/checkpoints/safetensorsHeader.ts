/**
 * The header of a safetensors file, checked completely before a byte of data is read. The rules are those of the reference
 * implementation and stricter ones where it is lax; docs/security.md lists them.
 */
import type { FloatDType } from '../dtype';
import { XlformersError, type ErrorCode } from '../errors';
import { JsonNumber, JsonProblem, type JsonValue, scanJsonMembers } from './jsonScanner';

export type SafetensorsDType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL';

/** What floating tensors are stored as. */
export const floatTypes = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
} as const satisfies Record<FloatDType, SafetensorsDType>;

export const dtypeBytes: Record<SafetensorsDType, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

export interface SafetensorsEntryInfo {
  dtype: SafetensorsDType;
  shape: readonly number[];
  /** Position of the first byte, from the start of the data. */
  begin: number;
  /** Position after the last byte. */
  end: number;
}

export interface SafetensorsHeader {
  tensors: Map<string, SafetensorsEntryInfo>;
  metadata: Map<string, string>;
  /** Position of the data in the file. */
  dataStart: number;
}

/** Larger headers block the event loop; real ones are a few hundred kilobytes. */
export const maxHeaderBytes = 16 * 2 ** 20;
/** What the format itself allows. */
const maxHeaderLength = 100_000_000n;
const maxTensors = 1_000_000;
const maxNameLength = 1024;
const maxDimensions = 8;

/**
 * The length that the first eight bytes say, checked against the file.
 * @throws XlformersError ERR_SAFETENSORS_HEADER_LENGTH, ERR_SAFETENSORS_HEADER_LIMIT
 */
export function headerLength(file: string, first: Uint8Array, fileSize: number): number {
  if (fileSize < 8) refuse('ERR_SAFETENSORS_HEADER_LENGTH', file, `has ${fileSize} bytes, expected at least 8`);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length < 2n || length > BigInt(fileSize - 8) || length > maxHeaderLength) {
    refuse('ERR_SAFETENSORS_HEADER_LENGTH', file, `says its header has ${length} bytes, the file has ${fileSize}`);
  }
  if (length > BigInt(maxHeaderBytes)) {
    refuse('ERR_SAFETENSORS_HEADER_LIMIT', file, `has a header of ${length} bytes, at most ${maxHeaderBytes} are read`);
  }
  return Number(length);
}

/** @throws XlformersError ERR_SAFETENSORS_* naming file and tensor */
export function parseHeader(file: string, bytes: Uint8Array, fileSize: number): SafetensorsHeader {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse('ERR_SAFETENSORS_HEADER_ENCODING', file, 'has a header that is not UTF-8');
  }
  if (text.startsWith('\ufeff') || text.includes('\0')) {
    refuse('ERR_SAFETENSORS_HEADER_ENCODING', file, 'has a byte order mark or NUL in its header');
  }
  const dataStart = 8 + bytes.length;
  const dataBytes = fileSize - dataStart;
  const metadata = new Map<string, string>();
  // A member at a time, as each is a small part of what it was parsed into.
  const members = scan(file, text, (name, value) => {
    if (name === '__metadata__') {
      readMetadata(file, value, metadata);
      return null;
    }
    if (name.length > maxNameLength || name.includes('\0')) {
      refuse('ERR_SAFETENSORS_NAME', file, `has a tensor name of ${name.length} characters, or with NUL`);
    }
    return readEntry(file, name, value, dataBytes);
  });
  members.delete('__metadata__');
  const tensors = members as Map<string, SafetensorsEntryInfo>;
  requireCoverage(file, tensors, dataBytes);
  return { tensors, metadata, dataStart };
}

type Member = SafetensorsEntryInfo | null;

function scan(file: string, text: string, convert: (name: string, value: JsonValue) => Member): Map<string, Member> {
  const limits = { maxDepth: 3, maxKeys: 16 * maxTensors, maxItems: 2 * maxDimensions };
  try {
    const members = scanJsonMembers(text, limits, convert);
    return members ?? refuse('ERR_SAFETENSORS_HEADER_JSON', file, 'has a header that is no JSON object');
  } catch (error) {
    if (!(error instanceof JsonProblem)) throw error;
    const codes: Record<JsonProblem['kind'], ErrorCode> = {
      syntax: 'ERR_SAFETENSORS_HEADER_JSON',
      duplicate: 'ERR_SAFETENSORS_DUPLICATE_KEY',
      limit: 'ERR_SAFETENSORS_HEADER_LIMIT',
      encoding: 'ERR_SAFETENSORS_HEADER_ENCODING',
    };
    return refuse(codes[error.kind], file, `header: ${error.message}`);
  }
}

function readMetadata(file: string, value: JsonValue, metadata: Map<string, string>): void {
  if (!(value instanceof Map)) return refuse('ERR_SAFETENSORS_METADATA', file, 'has metadata that are no object');
  for (const [key, entry] of value) {
    if (typeof entry !== 'string')
      refuse('ERR_SAFETENSORS_METADATA', file, `has metadata '${key.slice(0, 60)}' that is no string`);
    metadata.set(key, entry as string);
  }
}

function readEntry(file: string, name: string, value: JsonValue, dataBytes: number): SafetensorsEntryInfo {
  const where = `tensor '${name.slice(0, 60)}'`;
  if (!(value instanceof Map) || [...value.keys()].sort().join() !== 'data_offsets,dtype,shape') {
    return refuse('ERR_SAFETENSORS_ENTRY', file, `${where}: expected dtype, shape and data_offsets, and nothing else`);
  }
  const dtype = value.get('dtype');
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype)) {
    return refuse(
      'ERR_SAFETENSORS_DTYPE',
      file,
      `${where}: dtype ${show(dtype)}, known are ${Object.keys(dtypeBytes).join(', ')}`,
    );
  }
  const known = dtype as SafetensorsDType;
  const shape = value.get('shape');
  if (!Array.isArray(shape) || shape.length > maxDimensions) {
    return refuse('ERR_SAFETENSORS_SHAPE', file, `${where}: shape is no array of at most ${maxDimensions} sizes`);
  }
  const sizes = shape.map((size) => integer('ERR_SAFETENSORS_SHAPE', file, `${where}: shape`, size));
  const bytes = sizes.reduce((product, size) => product * BigInt(size), BigInt(dtypeBytes[known]));
  // A zero size must not hide a product that could not be computed.
  const magnitude = sizes.reduce((product, size) => product * BigInt(Math.max(1, size)), BigInt(dtypeBytes[known]));
  if (magnitude > BigInt(Number.MAX_SAFE_INTEGER)) {
    refuse('ERR_SAFETENSORS_OVERFLOW', file, `${where}: shape [${sizes.join(', ')}] is larger than 2^53 bytes`);
  }
  const offsets = value.get('data_offsets');
  if (!Array.isArray(offsets) || offsets.length !== 2) {
    return refuse('ERR_SAFETENSORS_OFFSETS', file, `${where}: data_offsets is no pair`);
  }
  const [begin, end] = offsets.map((offset) =>
    integer('ERR_SAFETENSORS_OFFSETS', file, `${where}: data_offsets`, offset),
  ) as [number, number];
  if (begin > end || end > dataBytes) {
    refuse('ERR_SAFETENSORS_OFFSETS', file, `${where}: data_offsets [${begin}, ${end}] in ${dataBytes} bytes of data`);
  }
  if (BigInt(end - begin) !== bytes) {
    refuse(
      'ERR_SAFETENSORS_SIZE',
      file,
      `${where}: ${end - begin} bytes for ${known} [${sizes.join(', ')}], expected ${bytes}`,
    );
  }
  return { dtype: known, shape: Object.freeze(sizes), begin, end };
}

/** An integer >= 0 written as one: no sign, fraction or exponent. */
function integer(code: ErrorCode, file: string, where: string, value: JsonValue): number {
  if (value instanceof JsonNumber && /^(0|[1-9][0-9]*)$/.test(value.text)) {
    const number = Number(value.text);
    if (Number.isSafeInteger(number)) return number;
    return refuse(
      code === 'ERR_SAFETENSORS_SHAPE' ? 'ERR_SAFETENSORS_OVERFLOW' : code,
      file,
      `${where}: ${value.text} exceeds 2^53`,
    );
  }
  return refuse(code, file, `${where}: got ${show(value)}, expected an integer >= 0`);
}

/** The tensors fill the data from the first to the last byte, without holes and overlaps: no place for anything else. */
function requireCoverage(file: string, tensors: Map<string, SafetensorsEntryInfo>, dataBytes: number): void {
  const sorted = [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const entry of sorted) {
    const { begin, end } = entry;
    if (begin !== position) {
      const [name] = [...tensors].find(([, each]) => each === entry)!;
      const what =
        begin < position ? 'overlaps the one before' : `leaves a hole of ${begin - position} bytes before it`;
      refuse('ERR_SAFETENSORS_COVERAGE', file, `tensor '${name.slice(0, 60)}' ${what}`);
    }
    position = end;
  }
  if (position !== dataBytes) {
    refuse('ERR_SAFETENSORS_COVERAGE', file, `${dataBytes - position} bytes after the last tensor`);
  }
}

function show(value: JsonValue | undefined): string {
  if (value instanceof JsonNumber) return value.text.slice(0, 40);
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  if (Array.isArray(value)) return 'an array';
  return value instanceof Map ? 'an object' : String(value);
}

function refuse(code: ErrorCode, file: string, problem: string): never {
  throw new XlformersError(code, `${file}: ${problem}`);
}
