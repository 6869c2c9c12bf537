import { constants, promises as fs } from 'node:fs';
import { XlformersError } from '../errors';

/**
 * Opens a regular file for reading; never blocks on a pipe, never reads a device.
 * @throws XlformersError ERR_FILE_NOT_FOUND, ERR_FILE_KIND, ERR_FILE_READ naming the file
 */
export async function openRegularFile(file: string): Promise<{ handle: fs.FileHandle; size: number }> {
  let handle: fs.FileHandle;
  try {
    handle = await fs.open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const missing = code === 'ENOENT' || code === 'ENOTDIR';
    throw new XlformersError(
      missing ? 'ERR_FILE_NOT_FOUND' : 'ERR_FILE_READ',
      missing ? `${file}: there is no such file` : `${file}: cannot be opened: ${message}`,
      { cause: error },
    );
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new XlformersError('ERR_FILE_KIND', `${file}: is not a regular file`);
  }
  return { handle, size: stat.size };
}

/** Exactly `length` bytes from `position`. @throws XlformersError ERR_FILE_READ when the file ends earlier */
export async function readExactly(
  handle: fs.FileHandle,
  file: string,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await fill(bytes, handle, file, position);
  return bytes;
}

/** A piece of a file in memory: small enough to stay in cache, large enough that calls cost nothing. A multiple of every element size. */
const pieceBytes = 2 ** 20;

type Pair = readonly [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
const newPair = (): Pair => [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)];
/** Buffers for the next reader: thousands of tensors would leave thousands of them to the garbage collector. */
let spare: Pair | null = null;

/**
 * `length` bytes from `position`, piece by piece: while one is used, the next is read. A piece is overwritten by the one after the next.
 * @throws XlformersError ERR_FILE_READ when the file ends earlier
 */
export async function* readPieces(
  handle: fs.FileHandle,
  file: string,
  position: number,
  length: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const pair = spare ?? newPair();
  spare = null;
  const read = async (start: number) => {
    const buffer = pair[(start / pieceBytes) % 2 === 0 ? 0 : 1];
    const piece = buffer.subarray(0, Math.min(pieceBytes, length - start));
    await fill(piece, handle, file, position + start);
    return piece;
  };
  const ahead = (start: number) => {
    const reading = read(start);
    // It may fail before anyone waits for it.
    reading.catch(() => undefined);
    return reading;
  };
  let next = length > 0 ? ahead(0) : null;
  try {
    for (let start = pieceBytes; next !== null; start += pieceBytes) {
      const piece = await next;
      next = start < length ? ahead(start) : null;
      yield piece;
    }
    spare = pair;
  } finally {
    // Who stops early leaves a read behind: it is waited for, and its failure is of no interest.
    await next?.catch(() => undefined);
  }
}

async function fill(
  bytes: Uint8Array<ArrayBuffer>,
  handle: fs.FileHandle,
  file: string,
  position: number,
): Promise<void> {
  // One read call transfers less than 2 GiB.
  const largest = 2 ** 30;
  for (let done = 0; done < bytes.length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(largest, bytes.length - done), position + done);
    if (bytesRead === 0) {
      throw new XlformersError(
        'ERR_FILE_READ',
        `${file}: ends at byte ${position + done}, expected ${position + bytes.length}`,
      );
    }
    done += bytesRead;
  }
}

/** Whether a folder of that name is there; links count as what they lead to. */
export async function isDirectory(name: string): Promise<boolean> {
  try {
    return (await fs.stat(name)).isDirectory();
  } catch {
    return false;
  }
}
