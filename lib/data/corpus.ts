import { openRegularFile, readExactly } from '../checkpoints/readFile';
import { XlformersError, describe } from '../errors';

/** Text as token ids, split in time order: what comes later is never trained on. */
export interface Corpus {
  train: Uint8Array;
  valid: Uint8Array;
  test: Uint8Array;
}

/** Shares of the end of a text that are held out. */
export interface HoldOut {
  /** Share for validation, in [0, 0.5). */
  valid: number;
  /** Share for the test, after the validation part, in [0, 0.5). */
  test: number;
}

/** A whole file. @throws XlformersError ERR_FILE_NOT_FOUND, ERR_FILE_KIND, ERR_FILE_READ naming the file */
export async function readBytes(path: string): Promise<Uint8Array> {
  const { handle, size } = await openRegularFile(path);
  try {
    return await readExactly(handle, path, 0, size);
  } finally {
    await handle.close();
  }
}

/** [train | valid | test] of one text. @throws XlformersError ERR_ARG_RANGE */
export function splitCorpus(bytes: Uint8Array, { valid, test }: HoldOut): Corpus {
  for (const [name, share] of [
    ['valid', valid],
    ['test', test],
  ] as const) {
    if (typeof share !== 'number' || !(share >= 0 && share < 0.5)) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `holdOut.${name}: got ${describe(share)}, expected a number in [0, 0.5)`,
      );
    }
  }
  const testStart = bytes.length - Math.floor(bytes.length * test);
  const validStart = testStart - Math.floor(bytes.length * valid);
  return {
    train: bytes.subarray(0, validStart),
    valid: bytes.subarray(validStart, testStart),
    test: bytes.subarray(testStart),
  };
}
