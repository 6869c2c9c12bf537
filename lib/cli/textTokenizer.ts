import { existsSync } from 'node:fs';
import path from 'node:path';
import { XlformersError } from '../errors';
import { ByteLevelTokenizer } from '../tokenizers/byteLevel';
import { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';

/** From plain text to ids and back, without special tokens around it. */
export interface TextTokenizer {
  encode(text: string): Int32Array;
  decode(ids: readonly number[]): string;
}

/**
 * The tokenizer of a model folder.
 * @throws XlformersError ERR_TOKENIZER_FILE, and the errors of loading
 */
export async function loadTextTokenizer(directory: string, vocabSize: number): Promise<TextTokenizer> {
  if (['tokenizer.json', 'spiece.model'].some((file) => existsSync(path.join(directory, file)))) {
    const tokenizer = await XLNetTokenizer.fromFolder(directory);
    return {
      encode: (text) => tokenizer.encode(text, { addSpecialTokens: false }).ids,
      decode: (ids) => tokenizer.decode(ids),
    };
  }
  if (vocabSize === new ByteLevelTokenizer().vocabSize) return new ByteLevelTokenizer();
  throw new XlformersError(
    'ERR_TOKENIZER_FILE',
    `${directory}: has neither tokenizer.json nor spiece.model, and a vocabulary of ${vocabSize} ids is not one of bytes (256)`,
  );
}
