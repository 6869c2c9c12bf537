import { XlformersError } from '../errors';
import type { Template } from './encoding';

/** `A <sep> <cls>` and `A <sep> B <sep> <cls>`: XLNet reads the summary at the end. */
export function xlnetTemplates(sep: number, cls: number): { single: Template; pair: Template } {
  const end = { id: cls, typeId: 2 };
  const first = [
    { sequence: 0, typeId: 0 },
    { id: sep, typeId: 0 },
  ] as const;
  return { single: [...first, end], pair: [...first, { sequence: 1, typeId: 1 }, { id: sep, typeId: 1 }, end] };
}

export function unsupported(what: string): XlformersError {
  return new XlformersError('ERR_TOKENIZER_UNSUPPORTED', `${what}; only what XLNet's tokenizers use is run here`);
}

/** By text; the vocabulary has no text twice. */
export function idsOf(pieces: readonly string[]): Map<string, number> {
  const ids = new Map<string, number>();
  pieces.forEach((piece, id) => {
    if (ids.has(piece))
      throw new XlformersError('ERR_TOKENIZER_ID', `vocabulary: '${piece}' has ids ${ids.get(piece)} and ${id}`);
    ids.set(piece, id);
  });
  return ids;
}
