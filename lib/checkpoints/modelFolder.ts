import path from 'node:path';
import { XlformersError } from '../errors';
import { openRegularFile, readExactly } from './readFile';

/** A configuration is a few kilobytes; what is larger is something else. */
const maxConfigBytes = 2 ** 20;

/**
 * The config.json of a model folder, as it stands. `__proto__` and the like are plain keys without effect.
 * @throws XlformersError ERR_FILE_*, ERR_CONFIG naming the file
 */
export function readConfigFile(directory: string): Promise<Record<string, unknown>> {
  return readJsonFile(path.join(directory, 'config.json'), maxConfigBytes);
}

/**
 * A JSON object from a file of limited size.
 * @throws XlformersError ERR_FILE_*, ERR_CONFIG naming the file
 */
export async function readJsonFile(file: string, maxBytes: number): Promise<Record<string, unknown>> {
  const { handle, size } = await openRegularFile(file);
  try {
    if (size > maxBytes) {
      throw new XlformersError('ERR_CONFIG', `${file}: has ${size} bytes, expected at most ${maxBytes}`);
    }
    const text = new TextDecoder().decode(await readExactly(handle, file, 0, size));
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new XlformersError('ERR_CONFIG', `${file}: is not JSON: ${(error as Error).message}`, { cause: error });
    }
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      throw new XlformersError('ERR_CONFIG', `${file}: expected a JSON object`);
    }
    return value as Record<string, unknown>;
  } finally {
    await handle.close();
  }
}
