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
  // One read call transfers less than 2 GiB.
  const largest = 2 ** 30;
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(largest, length - done), position + done);
    if (bytesRead === 0) {
      throw new XlformersError(
        'ERR_FILE_READ',
        `${file}: ends at byte ${position + done}, expected ${position + length}`,
      );
    }
    done += bytesRead;
  }
  return bytes;
}

/** Whether a folder of that name is there; links count as what they lead to. */
export async function isDirectory(name: string): Promise<boolean> {
  try {
    return (await fs.stat(name)).isDirectory();
  } catch {
    return false;
  }
}
