/** Word vocabularies of Transformer-XL: vocab.txt, and the pickles that Hugging Face's `TransfoXLTokenizer` and the original's `Vocab` leave. */
import { readPickledValue } from '../checkpoints/torchCheckpoint';
import { opaqueObject, PickleGlobal, type PickleValue } from '../checkpoints/unpickle';
import { XlformersError, describe } from '../errors';
import { readTokenizerText } from './readTokenizerFile';
import { pythonSpace } from './unicode';

export interface WordVocabulary {
  /** By id. */
  symbols: readonly string[];
  idOf: ReadonlyMap<string, number>;
  /** What words outside the vocabulary become. */
  unknownId: number;
}

/** lm1b, the largest there is, has 793,472. */
const maxSymbols = 2 ** 22;

/** Objects that the attributes of a `TransfoXLTokenizer` hold beside the vocabulary. */
const harmless: ReadonlyMap<string, PickleGlobal> = new Map(
  [
    're _compile',
    'builtins set',
    'sacremoses.normalize MosesPunctNormalizer',
    'sacremoses.tokenize MosesTokenizer',
    'sacremoses.tokenize MosesDetokenizer',
    'tokenizers AddedToken',
    'transformers.tokenization_utils Trie',
  ].map((name) => [name, new PickleGlobal(name.replace(' ', '.'), () => opaqueObject)]),
);

/**
 * One word a line; what follows a word is ignored, as are words that come again. Ids count from 0.
 * @throws XlformersError ERR_FILE_*, ERR_TOKENIZER_FILE, ERR_VOCAB
 */
export async function readWordList(file: string): Promise<WordVocabulary> {
  const lines = (await readTokenizerText(file)).split(/\r\n|\r|\n/);
  if (lines.at(-1) === '') lines.pop();
  const words = lines.map((line, index) => {
    const word = line.split(pythonSpace).find((part) => part !== '');
    if (word === undefined) throw new XlformersError('ERR_VOCAB', `${file}: line ${index + 1} has no word`);
    return word;
  });
  const symbols = [...new Set(words)];
  refuseTooMany(file, symbols.length);
  const idOf = indexOf(symbols);
  return vocabulary(file, symbols, idOf, unknownIdOf(idOf));
}

/**
 * The dictionary with `idx2sym` and `sym2idx`, pickled or saved by `torch.save`. Nothing in it is executed.
 * @throws XlformersError ERR_FILE_*, ERR_PICKLE_*, ERR_TORCH_*, ERR_VOCAB saying what is wrong
 */
export async function readPickledVocabulary(file: string): Promise<WordVocabulary> {
  const root = await readPickledValue(file, harmless);
  const refuse = (message: string): never => {
    throw new XlformersError('ERR_VOCAB', `${file}: ${message}`);
  };
  if (!(root instanceof Map)) {
    return refuse(`holds ${describe(root)}, expected the dictionary of a Transformer-XL vocabulary`);
  }
  const symbols = root.get('idx2sym');
  const ids = root.get('sym2idx');
  if (!Array.isArray(symbols) || !(ids instanceof Map)) {
    return refuse("has no list 'idx2sym' and dictionary 'sym2idx', so it is no vocabulary of Transformer-XL");
  }
  refuseTooMany(file, symbols.length);
  symbols.forEach((symbol: PickleValue, id) => {
    if (typeof symbol !== 'string') refuse(`idx2sym[${id}] is ${describe(symbol)}, expected text`);
    if (ids.get(symbol) !== id) {
      refuse(`idx2sym[${id}] is ${describe(symbol)}, whose id in sym2idx is ${describe(ids.get(symbol))}`);
    }
  });
  if (ids.size !== symbols.length) {
    const left = [...ids].find(([, id]) => typeof id !== 'number' || symbols[id] === undefined);
    refuse(
      `sym2idx has ${ids.size} words, idx2sym ${symbols.length}: ${describe(left?.[0])} has id ${describe(left?.[1])}`,
    );
  }
  const counter = root.get('counter');
  if (counter instanceof Map) {
    for (const [word, count] of counter) {
      if (!Number.isSafeInteger(count))
        refuse(`counter: ${describe(word)} was seen ${describe(count)} times, expected an integer`);
    }
  } else if (counter !== undefined) refuse(`counter is ${describe(counter)}, expected a dictionary`);
  const idOf = indexOf(symbols as string[]);
  return vocabulary(file, symbols as string[], idOf, root.get('unk_idx') ?? idOf.get('<unk>') ?? idOf.get('<UNK>'));
}

/** The word for unknown ones in a list of words, by Hugging Face's rule. */
export function unknownIdOf(idOf: ReadonlyMap<string, number>): number | undefined {
  return idOf.get('<UNK>') ?? idOf.get('<unk>');
}

function indexOf(symbols: readonly string[]): Map<string, number> {
  return new Map(symbols.map((symbol, id) => [symbol, id]));
}

function vocabulary(
  file: string,
  symbols: readonly string[],
  idOf: ReadonlyMap<string, number>,
  unknownId: PickleValue | undefined,
): WordVocabulary {
  if (unknownId === undefined) {
    throw new XlformersError('ERR_VOCAB', `${file}: has neither <unk> nor <UNK>, expected a word for unknown ones`);
  }
  if (typeof unknownId !== 'number' || symbols[unknownId] === undefined) {
    throw new XlformersError(
      'ERR_VOCAB',
      `${file}: unk_idx is ${describe(unknownId)}, expected an id below ${symbols.length}`,
    );
  }
  return { symbols, idOf, unknownId };
}

function refuseTooMany(file: string, count: number): void {
  if (count <= maxSymbols) return;
  throw new XlformersError('ERR_VOCAB', `${file}: has ${count} words, expected at most ${maxSymbols}`);
}
