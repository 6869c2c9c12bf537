/** Word vocabularies from every kind of file, and those that are refused (the row vocab.pkl of docs/security.md). */
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLTokenizer } from '../../lib';
import { fixturePath } from '../support/fixtures';
import { int, pickle, text, torchZip, tuple } from '../support/torchFiles';

const folder = fixturePath('tokenizers', 'transformer-xl-small');
let scratch: string;
beforeAll(async () => {
  scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-vocabulary-'));
});
afterAll(() => fs.rm(scratch, { recursive: true }));

const list = (...items: Buffer[]) => pickle(']', '(', ...items, 'e');
const dictionary = (entries: [Buffer, Buffer][]) => pickle('}', '(', ...entries.flat(), 'u');
const file = (value: Buffer) => pickle(0x80, 2, value, '.');

interface Sketch {
  symbols?: Buffer[];
  ids?: [Buffer, Buffer][];
  more?: [string, Buffer][];
}

/** As little as makes a vocabulary of `<eos> <unk> the`. */
function vocabulary({ symbols, ids, more = [] }: Sketch = {}): Buffer {
  const words = ['<eos>', '<unk>', 'the'];
  return dictionary([
    [text('idx2sym'), list(...(symbols ?? words.map(text)))],
    [text('sym2idx'), dictionary(ids ?? words.map((word, id) => [text(word), int(id)]))],
    ...more.map(([name, value]): [Buffer, Buffer] => [text(name), value]),
  ]);
}

async function load(name: string, bytes: Uint8Array): Promise<TransformerXLTokenizer> {
  await fs.writeFile(path.join(scratch, name), bytes);
  return TransformerXLTokenizer.fromFile(path.join(scratch, name));
}

describe('what is read', () => {
  const vocabularyOf = (tokenizer: TransformerXLTokenizer) => [
    tokenizer.unkTokenId,
    ...Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.idToToken(id)),
  ];

  test('vocab.txt, the vocab.pkl of save_pretrained and the vocab.bin of torch.save hold the same', async () => {
    const [plain, pickled, saved] = await Promise.all(
      ['vocab.txt', 'vocab.pkl', 'vocab.bin'].map((name) => TransformerXLTokenizer.fromFile(path.join(folder, name))),
    );
    expect(plain!.vocabSize).toBeGreaterThan(200);
    expect(vocabularyOf(pickled!)).toEqual(vocabularyOf(plain!));
    expect(vocabularyOf(saved!)).toEqual(vocabularyOf(plain!));
  });

  test("torch.save's zip format", async () => {
    expect(vocabularyOf(await load('vocab.bin', torchZip(file(vocabulary()), [])))).toEqual([
      1,
      '<eos>',
      '<unk>',
      'the',
      '<formula>',
    ]);
  });

  test('as many words as WikiText-103 has', async () => {
    const words = Array.from({ length: 267_735 }, (_, id) => (id === 0 ? '<unk>' : `w${id.toString(36)}`));
    // As Python writes them, protocol 4: each word once, and from the memo after that.
    const fromMemo = (id: number) => {
      const bytes = Buffer.alloc(5);
      bytes.write('j', 'latin1');
      bytes.writeUInt32LE(id, 1);
      return bytes;
    };
    const memoized = (word: string) => pickle(0x8c, word.length, word, 0x94);
    const each = (make: (word: string, id: number) => Buffer[]) => Buffer.concat(words.flatMap(make));
    const bytes = pickle(
      ...[0x80, 4, '}', text('counter'), 'ccollections\nCounter\n', '}', '('],
      each((word, id) => [memoized(word), int(id)]),
      ...['u', 0x85, 'R', 's', text('idx2sym'), ']', '('],
      each((_, id) => [fromMemo(id)]),
      ...['e', 's', text('sym2idx'), 'ccollections\nOrderedDict\n', ')', 'R', '('],
      each((_, id) => [fromMemo(id), int(id)]),
      ...['u', 's', '.'],
    );
    const tokenizer = await load('large.pkl', bytes);
    expect(tokenizer.tokenToId(words[200_000] as string)).toBe(200_000);
  });

  test('what a dictionary says of the unknown word', async () => {
    expect((await load('a.pkl', file(vocabulary({ more: [['unk_idx', int(2)]] })))).unkTokenId).toBe(2);
    const words = ['<UNK>', '<unk>'];
    const sketch = { symbols: words.map(text), ids: words.map((word, id): [Buffer, Buffer] => [text(word), int(id)]) };
    // Hugging Face's order of looking differs between the two.
    expect((await load('a.pkl', file(vocabulary(sketch)))).unkTokenId).toBe(1);
    expect((await load('a.txt', Buffer.from('<UNK>\n<unk>\n'))).unkTokenId).toBe(0);
  });

  test('lists of words as Python reads them', async () => {
    const tokenizer = await load('a.txt', Buffer.from('<unk>\r\n the 17\nthe\rsea\u3000x\n'));
    expect(['<unk>', 'the', 'sea'].map((word) => tokenizer.tokenToId(word))).toEqual([0, 1, 2]);
  });

  test('a folder: what needs no unpickling comes first; nothing is said by name', async () => {
    const inside = path.join(scratch, 'folder');
    await fs.mkdir(inside);
    await expect(TransformerXLTokenizer.fromFolder(inside)).rejects.toThrow(
      /looked for vocab.txt, vocab.pkl, vocab.bin/,
    );
    await fs.copyFile(path.join(folder, 'vocab.bin'), path.join(inside, 'vocab.bin'));
    expect((await TransformerXLTokenizer.fromFolder(inside)).vocabSize).toBeGreaterThan(200);
    await fs.writeFile(path.join(inside, 'vocab.pkl'), file(vocabulary()));
    expect((await TransformerXLTokenizer.fromFolder(inside)).vocabSize).toBe(4);
    await fs.writeFile(path.join(inside, 'vocab.txt'), '<unk>\n');
    expect((await TransformerXLTokenizer.fromFolder(inside)).vocabSize).toBe(3);
  });
});

describe('what is refused', () => {
  const pair = (word: Buffer, id: Buffer): [Buffer, Buffer] => [word, id];
  const counter = (...entries: [Buffer, Buffer][]) =>
    pickle('ccollections\nCounter\n', tuple(dictionary(entries)), 'R');
  const three = (...ids: Buffer[]) => ['<eos>', '<unk>', 'the'].map((word, at) => pair(text(word), ids[at] as Buffer));

  test.each<[string, Buffer, string, RegExp]>([
    ['a list', file(list(text('<unk>'))), 'ERR_VOCAB', /expected the dictionary of a Transformer-XL vocabulary/],
    ['a number', file(int(7)), 'ERR_VOCAB', /holds 7/],
    ['a dictionary of something else', file(dictionary([[text('weight'), int(1)]])), 'ERR_VOCAB', /idx2sym/],
    [
      'counts that are text',
      file(vocabulary({ more: [['counter', counter(pair(text('the'), text('9')))]] })),
      'ERR_VOCAB',
      /'the' was seen '9' times/,
    ],
    ['a counter that is a list', file(vocabulary({ more: [['counter', list()]] })), 'ERR_VOCAB', /counter/],
    [
      'ids with a hole',
      file(vocabulary({ ids: three(int(0), int(1), int(3)) })),
      'ERR_VOCAB',
      /idx2sym\[2\] is 'the', whose id in sym2idx is 3/,
    ],
    ['an id twice', file(vocabulary({ ids: three(int(0), int(1), int(1)) })), 'ERR_VOCAB', /whose id in sym2idx is 1/],
    [
      'ids that are text',
      file(vocabulary({ ids: three(text('0'), int(1), int(2)) })),
      'ERR_VOCAB',
      /whose id in sym2idx is '0'/,
    ],
    ['ids that are negative', file(vocabulary({ ids: three(int(-1), int(1), int(2)) })), 'ERR_VOCAB', /-1/],
    [
      'a word without an id',
      file(vocabulary({ ids: three(int(0), int(1), int(2)).slice(0, 2) })),
      'ERR_VOCAB',
      /undefined/,
    ],
    [
      'an id without a word',
      file(vocabulary({ ids: [...three(int(0), int(1), int(2)), pair(text('sea'), int(3))] })),
      'ERR_VOCAB',
      /'sea' has id 3/,
    ],
    [
      'a word twice',
      file(vocabulary({ symbols: ['<eos>', '<unk>', 'the', 'the'].map(text) })),
      'ERR_VOCAB',
      /idx2sym\[3\]/,
    ],
    [
      'a word that is a number',
      file(vocabulary({ symbols: [text('<eos>'), text('<unk>'), int(5)] })),
      'ERR_VOCAB',
      /idx2sym\[2\] is 5, expected text/,
    ],
    [
      'no unknown word',
      file(vocabulary({ symbols: [text('the')], ids: [pair(text('the'), int(0))] })),
      'ERR_VOCAB',
      /neither <unk> nor <UNK>/,
    ],
    ['an unknown word out of range', file(vocabulary({ more: [['unk_idx', int(3)]] })), 'ERR_VOCAB', /unk_idx is 3/],
    [
      'an unknown word that is text',
      file(vocabulary({ more: [['unk_idx', text('1')]] })),
      'ERR_VOCAB',
      /unk_idx is '1'/,
    ],
    ['bytes after the pickle', pickle(file(vocabulary()), 'x'), 'ERR_PICKLE_STACK', /1 bytes follow/],
    ['half a file', file(vocabulary()).subarray(0, 40), 'ERR_PICKLE_TRUNCATED', /early/],
    ['an empty file', Buffer.alloc(0), 'ERR_PICKLE_TRUNCATED', /early/],
    [
      'a persistent id',
      file(vocabulary({ more: [['x', pickle(text('0'), 'Q')]] })),
      'ERR_PICKLE_OPCODE',
      /persistent id/,
    ],
    ['a model', torchZip(file(list(text('x'))), []), 'ERR_VOCAB', /array of length 1/],
  ])('%s', async (_, bytes, code, message) => {
    await expect(load('bad.pkl', bytes)).rejects.toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error,
    );
    await expect(load('bad.pkl', bytes)).rejects.toThrow(/bad\.pkl/);
  });

  test('five million words, by whichever limit comes first', async () => {
    const known = pickle(text('<unk>'), 'q', 0, '0');
    const words = pickle(']', known, '(', Buffer.alloc(10_000_000, Buffer.from([0x68, 0])), 'e');
    const entries: [Buffer, Buffer][] = [
      [text('sym2idx'), dictionary([])],
      [text('idx2sym'), words],
    ];
    await expect(load('bad.pkl', file(dictionary(entries)))).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(VOCAB|PICKLE_LIMIT)$/) as string,
    });
  });

  test.each([
    ['os.system', 'posix', 'system'],
    ['eval', 'builtins', 'eval'],
    ['a class of the training script', 'vocabulary', 'Vocab'],
    ['a class of sacremoses that no tokenizer has', 'sacremoses.tokenize', 'open'],
  ])('%s is named and not called', async (_, module, name) => {
    const canary = path.join(scratch, 'canary');
    const call = pickle(`c${module}\n${name}\n`, tuple(text(`touch ${canary}`)), 'R');
    await expect(load('bad.pkl', file(vocabulary({ more: [['x', call]] })))).rejects.toMatchObject({
      code: 'ERR_PICKLE_GLOBAL',
      message: expect.stringContaining(`'${module}.${name}'`) as string,
    });
    await expect(fs.access(canary)).rejects.toThrow();
  });

  test('state is read over for objects that are on the list, and for no others', async () => {
    const known = pickle(
      'csacremoses.tokenize\nMosesTokenizer\n',
      ')',
      0x81,
      dictionary([[text('lang'), text('en')]]),
      'b',
    );
    expect((await load('good.pkl', file(vocabulary({ more: [['moses', known]] })))).vocabSize).toBe(4);
    const other = pickle(text('x'), dictionary([]), 'b');
    await expect(load('bad.pkl', file(vocabulary({ more: [['x', other]] })))).rejects.toMatchObject({
      code: 'ERR_PICKLE_OPCODE',
    });
  });

  test.each([
    ['a line without a word', '<unk>\n\nthe\n', 'ERR_VOCAB', /line 2/],
    ['no unknown word', 'the\nsea\n', 'ERR_VOCAB', /neither/],
    ['nothing', '', 'ERR_VOCAB', /neither/],
  ])('a list of words with %s', async (_, contents, code, message) => {
    await expect(load('bad.txt', Buffer.from(contents))).rejects.toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error,
    );
  });

  test('a list of words that is not UTF-8', async () => {
    await expect(load('bad.txt', Buffer.from([0x61, 0xff, 0x0a]))).rejects.toMatchObject({
      code: 'ERR_TOKENIZER_FILE',
    });
  });

  test('saving words that no line can hold', async () => {
    const words = ['<unk>', 'two words'];
    const spaced = await load(
      'spaced.pkl',
      file(vocabulary({ symbols: words.map(text), ids: words.map((word, id) => pair(text(word), int(id))) })),
    );
    await expect(spaced.save(path.join(scratch, 'nowhere'))).rejects.toThrow(/word 1, 'two words', has white space/);
    const other = await load('other.pkl', file(vocabulary({ more: [['unk_idx', int(2)]] })));
    await expect(other.save(path.join(scratch, 'nowhere'))).rejects.toThrow(/word for unknown ones is 'the'/);
    await expect(fs.access(path.join(scratch, 'nowhere'))).rejects.toThrow();
  });
});
