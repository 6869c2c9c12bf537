import { promises as fs } from 'node:fs';
import path from 'node:path';
import { readPickledVocabulary, readWordList, type WordVocabulary } from '../../lib/tokenizers/wordVocabulary';
import { fixturePath } from '../../test/support/fixtures';
import { mutateBytes } from './bytes';
import { type Format, requireBounds } from './format';
import { mutatePickle } from './torch';

const fixture = (name: string) => fs.readFile(fixturePath('tokenizers', 'transformer-xl-small', name));

/** Every word has the id of its place, and the unknown one is among them. */
function requireVocabulary({ symbols, idOf, unknownId }: WordVocabulary): void {
  symbols.forEach((word, id) => requireBounds(idOf.get(word) === id, `id ${idOf.get(word)} of word ${id}`));
  requireBounds(idOf.size === symbols.length, `${idOf.size} ids of ${symbols.length} words`);
  requireBounds(unknownId >= 0 && unknownId < symbols.length, `unknown id ${unknownId} of ${symbols.length}`);
}

export const wordList: Format = {
  corpus: async () => [await fixture('vocab.txt'), Buffer.from('<eos>\n<unk>\na 7\nb\n')],
  mutate: mutateBytes,
  check: async (file, folder) => {
    const place = path.join(folder, 'vocab.txt');
    await fs.writeFile(place, file);
    requireVocabulary(await readWordList(place));
  },
};

export const pickledVocabulary: Format = {
  corpus: async () => [await fixture('vocab.pkl'), await fixture('vocab.bin')],
  mutate: mutatePickle,
  check: async (file, folder) => {
    const place = path.join(folder, 'vocab.pkl');
    await fs.writeFile(place, file);
    requireVocabulary(await readPickledVocabulary(place));
  },
};
