import { createHash } from 'node:crypto';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { piecesOf } from './vocabulary';

/** What data are known by in checkpoints. */
export function sha256(...parts: readonly (string | NodeJS.ArrayBufferView)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

/** Of a tokenizer: its vocabulary, and how it cuts the texts of a run, which also tells apart scores of pieces and rules. */
export function tokenizerFingerprint(tokenizer: XLNetTokenizer, ids: Iterable<Int32Array>): string {
  const hash = createHash('sha256').update(JSON.stringify(piecesOf(tokenizer)));
  for (const each of ids) hash.update(Int32Array.of(each.length)).update(each);
  return hash.digest('hex');
}
