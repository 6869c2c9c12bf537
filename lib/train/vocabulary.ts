import { XlformersError } from '../errors';
import type { XLNetConfig } from '../models/xlnetConfig';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';

/** By id. */
export function piecesOf(tokenizer: XLNetTokenizer): string[] {
  return Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.idToToken(id));
}

/** @throws XlformersError ERR_CONFIG when the tokenizer has ids that the model does not know */
export function requireVocabulary({ vocabSize }: XLNetConfig, tokenizer: XLNetTokenizer): void {
  if (tokenizer.vocabSize <= vocabSize) return;
  throw new XlformersError(
    'ERR_CONFIG',
    `config.vocabSize: got ${vocabSize}, expected at least ${tokenizer.vocabSize}, the ids of the tokenizer`,
  );
}
