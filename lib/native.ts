import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { bindingPath } from './env';
import { type ErrorCode, errorCodes, XlformersError } from './errors';
import { type NativeBuffer, type NativeDType, type NativeOperators, operatorNames } from './nativeOperators';

export type * from './nativeOperators';

declare const deviceBrand: unique symbol;

/** A device with a queue and an allocator of its own: an opaque handle. */
export interface NativeDevice {
  readonly [deviceBrand]: never;
}

declare const recordingBrand: unique symbol;

/** Operators to be run again and again: an opaque handle. */
export interface NativeRecording {
  readonly [recordingBrand]: never;
}

export interface NativeBackend {
  name: 'cpu' | 'cuda';
  devices: { index: number; name: string; detail: string; memoryBytes: number; threads: number }[];
  /** Why there is no device, when there is none. */
  reason: string | null;
}

export interface NativeMemory {
  /** Bytes that buffers hold. */
  liveBytes: number;
  /** Bytes kept for reuse. */
  cachedBytes: number;
  /** The most that buffers and scratch memory held since the last `resetPeak`. */
  peakBytes: number;
  /** Scratch memory of operators, now. */
  workspaceBytes: number;
  /** The share of scratch memory in `peakBytes`. */
  peakWorkspaceBytes: number;
}

/**
 * The native addon. Wrong arguments throw `XlformersError` at the call; what goes wrong in the queue rejects the next `read` or `fence`
 * of that device. Loaded on first use.
 */
export interface Native extends NativeOperators {
  backends(): NativeBackend[];
  /** @throws XlformersError ERR_DEVICE with the reason */
  openDevice(backend: 'cpu' | 'cuda', index: number): NativeDevice;
  memory(device: NativeDevice): NativeMemory;
  /** Makes the present use the new peak. */
  resetPeak(device: NativeDevice): void;
  /** Gives memory kept for reuse back to the system. Waits for the queue. */
  releaseCached(device: NativeDevice): void;
  /** Elements of the packed form of a matrix [inner, columns]; 0: packing is of no use here. */
  packedMatrixElements(device: NativeDevice, dtype: NativeDType, columns: number, inner: number): number;
  /** Uninitialised memory. @throws XlformersError ERR_OUT_OF_MEMORY */
  allocate(device: NativeDevice, bytes: number): NativeBuffer;
  /** A part of a buffer, to be released on its own; the memory is freed with the last handle. */
  view(buffer: NativeBuffer, byteOffset: number, byteLength: number): NativeBuffer;
  /** Frees in the order of the queue: operators that are enqueued already still find the memory. Harmless when repeated. */
  release(buffer: NativeBuffer): void;
  /** Enqueues a copy of the array's bytes, exactly as many as the buffer has. The array may change afterwards. */
  upload(buffer: NativeBuffer, data: NodeJS.TypedArray): void;
  /** Fills `target`, exactly as long as the buffer, once the queue has got here. */
  read(buffer: NativeBuffer, target: ArrayBuffer): Promise<void>;
  /** Notes operators of that device from here on instead of running them. */
  beginRecording(device: NativeDevice): void;
  /** What was noted since. It has not run yet. */
  endRecording(): NativeRecording;
  /** Enqueues what was noted once more. */
  replay(recording: NativeRecording): void;
  /** Gives the recording's memory free. Harmless when repeated. */
  dropRecording(recording: NativeRecording): void;
  /** Resolves once the queue has got here. */
  fence(device: NativeDevice): Promise<void>;
}

declare const stagingBrand: unique symbol;

interface Staging {
  readonly [stagingBrand]: never;
}

/** What the `.node` file exports. */
interface Addon extends Omit<Native, 'read'> {
  download(buffer: NativeBuffer, target: ArrayBuffer): Promise<Staging>;
  copyDownloaded(staging: Staging, target: ArrayBuffer, offset: number, length: number): void;
}

/** Copied in one turn of the event loop: well below a millisecond. */
const copyBytes = 1 << 20;

async function finishRead(staged: Promise<Staging>, target: ArrayBuffer): Promise<void> {
  const { byteLength } = target;
  const staging = await settled(staged);
  for (let offset = 0; offset === 0 || offset < byteLength; offset += copyBytes) {
    if (offset > 0) await setImmediate();
    copyDownloaded(staging, target, offset, Math.min(copyBytes, byteLength - offset));
  }
}

async function settled<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw wrapError(error);
  }
}

/** Errors made in C++ are plain, and belong to the main realm even under a test runner. */
function wrapError(error: unknown): unknown {
  if (error instanceof XlformersError) return error;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return typeof code === 'string' && Object.hasOwn(errorCodes, code)
    ? new XlformersError(code as ErrorCode, String(message))
    : error;
}

type Call = (...values: unknown[]) => unknown;

function wrapped(name: keyof Addon): Call {
  return (a, b, c, d) => {
    try {
      return (addon()[name] as Call)(a, b, c, d);
    } catch (error) {
      throw wrapError(error);
    }
  };
}

const plainCalls = [
  'backends',
  'openDevice',
  'memory',
  'resetPeak',
  'releaseCached',
  'packedMatrixElements',
  'allocate',
  'view',
  'release',
  'upload',
  'beginRecording',
  'endRecording',
  'replay',
  'dropRecording',
  ...operatorNames,
] as const satisfies readonly (keyof Native)[];

const download = wrapped('download') as Addon['download'];
const copyDownloaded = wrapped('copyDownloaded') as Addon['copyDownloaded'];
const fence = wrapped('fence') as Addon['fence'];

export const native = {
  ...Object.fromEntries(plainCalls.map((name) => [name, wrapped(name)])),
  read: (buffer: NativeBuffer, target: ArrayBuffer) => finishRead(download(buffer, target), target),
  fence: (device: NativeDevice) => settled(fence(device)),
} as unknown as Native;

let loaded: Addon | null = null;

function addon(): Addon {
  loaded ??= loadAddon();
  return loaded;
}

function loadAddon(): Addon {
  const load = createRequire(__filename);
  const tried: string[] = [];
  for (const file of candidates()) {
    if (!existsSync(file)) {
      tried.push(`${file}: not there`);
      continue;
    }
    try {
      return load(file) as Addon;
    } catch (error) {
      tried.push(`${file}: ${(error as Error).message}`);
    }
  }
  throw new XlformersError(
    'ERR_BINDING',
    [
      `the native addon for ${platform()} cannot be loaded. Tried:`,
      ...tried.map((line) => `  - ${line}`),
      'What helps: run `npm run build` in the folder of the package (needs CMake and a C++17 compiler),',
      'or set XLFORMERS_BINDING to the path of an xlformers.node that was built for this platform.',
    ].join('\n'),
  );
}

function* candidates(): Generator<string> {
  const given = bindingPath();
  if (given !== null) {
    yield path.resolve(given);
    return;
  }
  // This file is lib/native.ts, or dist/lib/native.js when compiled.
  const above = path.dirname(__dirname);
  const root = path.basename(above) === 'dist' ? path.dirname(above) : above;
  yield path.join(root, 'build', 'Release', 'xlformers.node');
  yield path.join(root, 'build', 'Debug', 'xlformers.node');
  yield path.join(root, 'prebuilds', platform(), 'xlformers.node');
}

/** `linux-x64`, `linuxmusl-arm64`, `darwin-arm64`, … */
function platform(): string {
  const musl = process.platform === 'linux' && !usesGlibc();
  return `${process.platform}${musl ? 'musl' : ''}-${process.arch}`;
}

function usesGlibc(): boolean {
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return report.header.glibcVersionRuntime !== undefined;
}
