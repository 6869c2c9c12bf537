import { readTextFile } from '../checkpoints/modelFolder';
import { openRegularFile, readExactly } from '../checkpoints/readFile';
import { XlformersError } from '../errors';
import { maxTokenizerFileBytes } from './limits';

/** A whole tokenizer file. @throws XlformersError ERR_FILE_*, ERR_TOKENIZER_FILE when it is too large to be one */
export async function readTokenizerFile(file: string): Promise<Uint8Array> {
  const { handle, size } = await openRegularFile(file);
  try {
    if (size > maxTokenizerFileBytes) {
      throw new XlformersError(
        'ERR_TOKENIZER_FILE',
        `${file}: has ${size} bytes, expected at most ${maxTokenizerFileBytes}`,
      );
    }
    return await readExactly(handle, file, 0, size);
  } finally {
    await handle.close();
  }
}

/** The same as text. @throws XlformersError also ERR_TOKENIZER_FILE when it is not UTF-8 */
export function readTokenizerText(file: string): Promise<string> {
  return readTextFile(file, maxTokenizerFileBytes, 'ERR_TOKENIZER_FILE');
}

/** The file's contents, or undefined when there is no such file. */
export async function ifPresent<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof XlformersError && error.code === 'ERR_FILE_NOT_FOUND') return undefined;
    throw error;
  }
}
