/**
 * Checkpoints that a crash at any moment cannot spoil. A checkpoint is a folder `checkpoint-000123` with its files and `state.json`,
 * which names each file's size and hash. It is written under a temporary name, synced, and renamed; older ones go only afterwards.
 */
import { createHash } from 'node:crypto';
import { createReadStream, promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError } from '../errors';
import { syncDirectory, writeError, writeFileAtomically } from './atomicFile';
import { openSafetensors, type SafetensorsEntry, type SafetensorsFile, writeTo } from './safetensors';

/** Moments of a save at which the crash tests stop it. */
export type FaultPoint =
  'after_tmp' | 'mid_file' | 'before_state' | 'before_rename' | 'after_rename' | 'before_latest' | 'prune';

export interface SaveRequest {
  step: number;
  files: ReadonlyMap<string, Iterable<SafetensorsEntry>>;
  /** JSON: numbers survive exactly; NaN and infinities are refused. */
  state: Readonly<Record<string, unknown>>;
}

export interface SaveOptions {
  /** Newest checkpoints kept. */
  keep: number;
  /** A step whose checkpoint is kept besides. */
  best?: number | undefined;
  fault?: ((point: FaultPoint) => void) | undefined;
}

export interface LoadedCheckpoint {
  step: number;
  directory: string;
  state: Record<string, unknown>;
  open(file: string): Promise<SafetensorsFile>;
}

export interface LoadOptions {
  /** Called for each checkpoint that is passed over, with the reason. */
  onSkipped?: ((directory: string, reason: string) => void) | undefined;
}

interface FileRecord {
  bytes: number;
  sha256: string;
}

const stateFile = 'state.json';
const folderPattern = /^checkpoint-(\d{6,})$/;
/** Folders of half-written checkpoints, and files that were to be renamed, by process. */
const temporaryPattern = /^\.(?:tmp-\d+-(?<folder>\d+)|.+\.(?<file>\d+)(?:-\d+)?\.tmp)$/;

/**
 * @returns the checkpoint's folder
 * @throws XlformersError ERR_CHECKPOINT_WRITE with the bytes needed and free; earlier checkpoints are then untouched.
 *   ERR_FILE_WRITE when an old checkpoint cannot be removed; the new one is then complete
 */
export async function saveTrainingCheckpoint(
  directory: string,
  { step, files, state }: SaveRequest,
  { keep, best, fault }: SaveOptions,
): Promise<string> {
  const target = path.join(directory, folderName(step));
  const temporary = path.join(directory, `.tmp-${step}-${process.pid}`);
  let needed = 0;
  try {
    await fs.rm(temporary, { recursive: true, force: true });
    await fs.mkdir(temporary, { recursive: true });
    fault?.('after_tmp');
    const records: Record<string, FileRecord> = {};
    for (const [name, entries] of files) {
      const list = [...entries];
      needed += list.reduce((sum, { data }) => sum + data.byteLength, 0);
      records[name] = await writeTensors(path.join(temporary, name), list, fault);
    }
    fault?.('before_state');
    await writeFileAtomically(path.join(temporary, stateFile), toJson({ step, files: records, state }));
    await syncDirectory(temporary);
    fault?.('before_rename');
    // A folder of this step can only be one that was refused as damaged: a good one would have been resumed from.
    await fs.rm(target, { recursive: true, force: true });
    await fs.rename(temporary, target);
    await syncDirectory(directory);
    fault?.('after_rename');
    fault?.('before_latest');
    await writeFileAtomically(path.join(directory, 'latest'), `${folderName(step)}\n`);
  } catch (error) {
    // What failed first is what counts.
    await fs.rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (error instanceof XlformersError && error.code !== 'ERR_FILE_WRITE') throw error;
    const free = await freeBytes(directory);
    throw new XlformersError(
      'ERR_CHECKPOINT_WRITE',
      `${target}: cannot be written: ${(error as Error).message}; ${needed} bytes needed, ${free} free. Earlier checkpoints are untouched`,
      { cause: error },
    );
  }
  fault?.('prune');
  await prune(directory, step, keep, best);
  return target;
}

/**
 * The newest checkpoint whose files are all there and unchanged, or null. Leftovers of dead processes are removed.
 * @throws XlformersError ERR_FILE_READ when the directory cannot be read, ERR_FILE_WRITE when leftovers cannot be removed
 */
export async function loadTrainingCheckpoint(
  directory: string,
  { onSkipped }: LoadOptions = {},
): Promise<LoadedCheckpoint | null> {
  await removeLeftovers(directory);
  for (const step of (await listSteps(directory)).sort((a, b) => b - a)) {
    const folder = path.join(directory, folderName(step));
    try {
      return loaded(folder, step, await verify(folder, step));
    } catch (error) {
      onSkipped?.(folder, (error as Error).message);
    }
  }
  return null;
}

/** The checkpoint of a step. @throws XlformersError ERR_FILE_READ when it is damaged or not there */
export async function openTrainingCheckpoint(directory: string, step: number): Promise<LoadedCheckpoint> {
  const folder = path.join(directory, folderName(step));
  try {
    return loaded(folder, step, await verify(folder, step));
  } catch (error) {
    throw new XlformersError('ERR_FILE_READ', `${folder}: cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function loaded(directory: string, step: number, state: Record<string, unknown>): LoadedCheckpoint {
  return { step, directory, state, open: (file) => openSafetensors(path.join(directory, file)) };
}

function folderName(step: number): string {
  return `checkpoint-${String(step).padStart(6, '0')}`;
}

async function writeTensors(
  file: string,
  entries: SafetensorsEntry[],
  fault: SaveOptions['fault'],
): Promise<FileRecord> {
  const handle = await fs.open(file, 'wx');
  try {
    await writeTo(handle, file, entries, {});
    fault?.('mid_file');
    await handle.sync();
  } finally {
    await handle.close();
  }
  return describeFile(file);
}

async function describeFile(file: string): Promise<FileRecord> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** The state, after checking every file against it. @throws Error with the reason */
async function verify(folder: string, step: number): Promise<Record<string, unknown>> {
  const parsed = JSON.parse(await fs.readFile(path.join(folder, stateFile), 'utf8')) as {
    step: number;
    files: Record<string, FileRecord>;
    state: Record<string, unknown>;
    sha256: string;
  };
  const { sha256, ...content } = parsed;
  if (sha256 !== digest(content) || parsed.step !== step) throw new Error(`${stateFile} is damaged`);
  for (const [name, expected] of Object.entries(parsed.files)) {
    const file = path.join(folder, name);
    const { size } = await fs.stat(file);
    if (size !== expected.bytes) throw new Error(`${name} has ${size} bytes, expected ${expected.bytes}`);
    const { sha256: actual } = await describeFile(file);
    if (actual !== expected.sha256) throw new Error(`${name} is damaged: its hash differs from that in ${stateFile}`);
  }
  return parsed.state;
}

/** The state with a hash of itself: a flipped digit would otherwise go unnoticed. */
function toJson(content: object): string {
  return `${JSON.stringify({ ...content, sha256: digest(content) }, refuseNonFinite, 1)}\n`;
}

function digest(content: object): string {
  return createHash('sha256').update(JSON.stringify(content, refuseNonFinite)).digest('hex');
}

function refuseNonFinite(key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new XlformersError('ERR_NOT_FINITE', `state.${key}: got ${value}, which JSON cannot hold`);
  }
  return value;
}

async function listSteps(directory: string): Promise<number[]> {
  const names = await readNames(directory);
  return names.flatMap((name) => folderPattern.exec(name)?.[1] ?? []).map(Number);
}

async function readNames(directory: string): Promise<string[]> {
  try {
    return await fs.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new XlformersError('ERR_FILE_READ', `${directory}: cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** What a killed process left half written. */
async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readNames(directory)) {
    const { folder, file } = temporaryPattern.exec(name)?.groups ?? {};
    const pid = folder ?? file;
    if (pid !== undefined && Number(pid) !== process.pid && !isAlive(Number(pid))) {
      await removeFolder(path.join(directory, name));
    }
  }
}

async function removeFolder(folder: string): Promise<void> {
  try {
    await fs.rm(folder, { recursive: true, force: true });
  } catch (error) {
    throw writeError(folder, error);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Removes all but the newest `keep` and the best. What is newer than this run's step belongs to an abandoned branch: it goes too. */
async function prune(directory: string, step: number, keep: number, best: number | undefined): Promise<void> {
  const steps = await listSteps(directory);
  const kept = new Set(
    steps
      .filter((each) => each <= step)
      .sort((a, b) => b - a)
      .slice(0, Math.max(1, keep)),
  );
  if (best !== undefined) kept.add(best);
  for (const each of steps) {
    if (!kept.has(each)) await removeFolder(path.join(directory, folderName(each)));
  }
}

async function freeBytes(directory: string): Promise<number | string> {
  try {
    const { bavail, bsize } = await fs.statfs(directory);
    return bavail * bsize;
  } catch {
    return 'an unknown number of';
  }
}
