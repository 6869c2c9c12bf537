import path from 'node:path';
import { XlformersError, type ErrorCode } from '../errors';
import { openRegularFile, readExactly } from './readFile';

/** A configuration is a few kilobytes; what is larger is something else. */
const maxConfigBytes = 2 ** 20;

/** Fields by which Python programs are told to run code that comes with the model. */
const codeFields = ['auto_map', 'trust_remote_code', 'custom_pipelines'];

/**
 * The config.json of a model folder, as it stands. `__proto__` and the like are plain keys without effect. What it says of code to be
 * run is passed over, with a warning.
 * @throws XlformersError ERR_FILE_*, ERR_CONFIG naming the file
 */
export async function readConfigFile(directory: string): Promise<Record<string, unknown>> {
  const file = path.join(directory, 'config.json');
  const config = await readJsonFile(file);
  for (const name of codeFields) {
    if (config[name] === undefined) continue;
    process.emitWarning(`${file}: '${name}' is ignored: no code of a model is ever run`, 'XlformersWarning');
  }
  return config;
}

async function readJsonFile(file: string): Promise<Record<string, unknown>> {
  const text = await readTextFile(file, maxConfigBytes, 'ERR_CONFIG');
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
}

/**
 * A text file of limited size.
 * @param code of files that are too large or not UTF-8
 * @throws XlformersError ERR_FILE_*, and of that code naming the file
 */
export async function readTextFile(file: string, maxBytes: number, code: ErrorCode): Promise<string> {
  const { handle, size } = await openRegularFile(file);
  try {
    if (size > maxBytes) throw new XlformersError(code, `${file}: has ${size} bytes, expected at most ${maxBytes}`);
    return new TextDecoder('utf-8', { fatal: true }).decode(await readExactly(handle, file, 0, size));
  } catch (error) {
    if (error instanceof XlformersError) throw error;
    throw new XlformersError(code, `${file}: is not UTF-8`, { cause: error });
  } finally {
    await handle.close();
  }
}
