import { XlformersError } from '../errors';
import { readBytes } from './corpus';

/**
 * A UTF-8 text, without a byte order mark.
 * @throws XlformersError ERR_FILE_READ; ERR_DATA_FORMAT naming file and line
 */
export async function readText(file: string): Promise<string> {
  return decodeUtf8(await readBytes(file), file);
}

function decodeUtf8(bytes: Uint8Array, source: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    // A string can hold about 512 million characters.
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') {
      throw new XlformersError('ERR_DATA_FORMAT', `${source}: ${bytes.length} bytes are too many; split the file`, {
        cause: error,
      });
    }
    throw new XlformersError(
      'ERR_DATA_FORMAT',
      `${source}: line ${firstBadLine(bytes)} is not UTF-8; convert the file`,
    );
  }
}

/** No UTF-8 sequence crosses a line feed, so lines can be judged one by one. */
function firstBadLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for (let line = 1, start = 0; ; line += 1) {
    const feed = bytes.indexOf(0x0a, start);
    const end = feed === -1 ? bytes.length : feed + 1;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end;
  }
}
