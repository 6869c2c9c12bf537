import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError } from '../errors';

/** Makes a directory's entries durable: a rename is only safe once its directory is synced. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

let writes = 0;

/** A name beside a file that no other writer has: the count keeps those in this process apart. */
export function temporaryName(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}-${(writes += 1)}.tmp`);
}

/**
 * Writes a file so that a crash leaves either the old one or the new one: temporary name, sync, rename, sync of the directory.
 * @throws XlformersError ERR_FILE_WRITE naming the file
 */
export async function writeAtomically(file: string, write: (handle: fs.FileHandle) => Promise<void>): Promise<void> {
  const directory = path.dirname(path.resolve(file));
  const temporary = temporaryName(path.resolve(file));
  try {
    const handle = await fs.open(temporary, 'w');
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await fs.rename(temporary, file);
    await syncDirectory(directory);
  } catch (error) {
    // What failed first is what counts.
    await fs.rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(file, error);
  }
}

/** ERR_FILE_WRITE naming the file or folder; an error of this library stays what it is. */
export function writeError(file: string, error: unknown): XlformersError {
  if (error instanceof XlformersError) return error;
  return new XlformersError('ERR_FILE_WRITE', `${file}: cannot be written: ${(error as Error).message}`, {
    cause: error,
  });
}

/** A folder, with those above it, if it is not there. @throws XlformersError ERR_FILE_WRITE naming it */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await fs.mkdir(directory, { recursive: true });
  } catch (error) {
    throw writeError(directory, error);
  }
}

export function writeFileAtomically(file: string, data: string | Uint8Array): Promise<void> {
  return writeAtomically(file, async (handle) => {
    await handle.writeFile(data);
  });
}
