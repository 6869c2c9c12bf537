import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Tensor, TransformerXLTokenizer } from '../../lib';
import { AlignedBuilder, AlignedText } from '../../lib/tokenizers/alignedText';
import { joinNumbers, mosesDetokenize } from '../../lib/tokenizers/mosesDetokenizer';
import { normalizePunctuation } from '../../lib/tokenizers/mosesPunctuation';
import { mosesTokenizer } from '../../lib/tokenizers/mosesTokenizer';
import { pythonSpace } from '../../lib/tokenizers/unicode';
import { fixturePath, readJson } from '../support/fixtures';

/** What scripts/reference/transformer_xl_tokenizer.py writes. Words have a space between them. */
interface Golden {
  text: string;
  ids: number[];
  tokens: string;
  /** With lower_case. */
  lowerIds: number[];
  /** By sacremoses' MosesPunctNormalizer. */
  normalized: string;
  /** By its MosesTokenizer, as it is called by Hugging Face. */
  moses: string;
  decoded: string;
  /** Without special tokens. */
  skipped: string;
  /** The words, unknown ones too, as text. */
  detokenized: string;
}

const folder = fixturePath('tokenizers', 'transformer-xl-small');
const { texts } = readJson<{ texts: Golden[] }>(folder, 'golden.json');
const words = (text: string) => text.split(' ').filter((word) => word !== '');
/** What Python's `strip` removes. */
const outerSpace = new RegExp(`^${pythonSpace.source}+|${pythonSpace.source}+$`, 'g');
const neverSplit = ['<eos>', '<unk>', '<formula>'];

let scratch: string;
let tokenizer: TransformerXLTokenizer;
beforeAll(async () => {
  scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-words-'));
  tokenizer = await TransformerXLTokenizer.fromFolder(folder);
});
afterAll(() => fs.rm(scratch, { recursive: true }));

describe('as Hugging Face and sacremoses', () => {
  test('the fixture has what it should', () => expect(texts.length).toBeGreaterThan(400));

  test.each(texts.map((entry) => [JSON.stringify(entry.text.slice(0, 60)), entry] as const))('%s', async (_, entry) => {
    const { text } = entry;
    const encoding = tokenizer.encode(text);
    expect([...encoding.ids]).toEqual(entry.ids);
    expect(encoding.tokens).toEqual(
      words(entry.tokens).map((word) => (tokenizer.tokenToId(word) === undefined ? '<unk>' : word)),
    );
    const moses = mosesTokenizer(neverSplit)(new AlignedText(text)).text;
    expect(words(moses).join(' ')).toBe(entry.moses);
    expect(normalizePunctuation(new AlignedText(text)).text.replace(outerSpace, '')).toBe(entry.normalized);
    expect(tokenizer.decode(entry.ids)).toBe(entry.decoded);
    expect(tokenizer.decode(entry.ids, { skipSpecialTokens: true })).toBe(entry.skipped);
    expect(joinNumbers(mosesDetokenize(words(entry.tokens))).replace(outerSpace, '')).toBe(entry.detokenized);
  });

  test('in small letters', async () => {
    const lower = await TransformerXLTokenizer.fromFile(path.join(folder, 'vocab.txt'), { lowerCase: true });
    for (const { text, lowerIds } of texts) expect([text, ...lower.encode(text).ids]).toEqual([text, ...lowerIds]);
  });
});

describe('offsets', () => {
  const spans = (text: string) => tokenizer.encode(text).offsets.map(([start, end]) => text.slice(start, end));

  test.each([
    ['He said: "I won\'t."', ['He', 'said', ':', '"', 'I', 'won', "'t", '.', '"']],
    [
      '$1,234.56 (4.5 %) — well-known…',
      ['$', '1', ',', '234', '.', '56', '(', '4', '.', '5', '%', ')', '—', 'well', '-', 'known', '…'],
    ],
    ["the <eos> Jones' ``old''", ['the', '<eos>', 'Jones', "'", '``', 'old', "''"]],
    ['😀日本 <EOS>x', ['😀', '日', '本', '<EOS>x']],
    ['“x”, y', ['“', 'x', ',', '”', 'y']],
  ])('%s', (text, expected) => {
    expect(spans(text)).toEqual(expected);
  });

  test('lie within every text', () => {
    for (const { text } of texts) {
      for (const [start, end] of tokenizer.encode(text).offsets) {
        expect(start >= 0 && start < end && end <= text.length).toBe(true);
      }
    }
  });
});

describe('options', () => {
  const [eos, unk] = [0, 1];
  const ids = (text: string, options?: Parameters<TransformerXLTokenizer['encode']>[1]) => [
    ...tokenizer.encode(text, options).ids,
  ];

  test('ends of texts', async () => {
    const [the, sea] = ['the', 'sea'].map((word) => tokenizer.tokenToId(word)) as [number, number];
    expect(tokenizer.eosTokenId).toBe(eos);
    expect(tokenizer.unkTokenId).toBe(unk);
    expect(ids('the sea')).toEqual([the, sea]);
    expect(ids('the sea', { addEos: true })).toEqual([the, sea, eos]);
    expect(ids('the sea', { addEos: true, addSpecialTokens: false })).toEqual([the, sea]);
    expect(ids('the', { pair: 'sea', addEos: true })).toEqual([the, eos, sea, eos]);
    expect([...tokenizer.encode('the', { pair: 'sea', addEos: true }).typeIds]).toEqual([0, 0, 1, 1]);
    expect(ids('the sea the sea', { addEos: true, truncation: true, maxLength: 3 })).toEqual([the, sea, eos]);
    expect(() => ids('the', { addDoubleEos: true })).toThrow(/no token '<S>'/);
    expect(() => ids('the', { addDoubleEos: true, addEos: true })).toThrow(/at most one/);
    expect(() => ids('the', { addEos: 1 as never })).toThrow(/options.addEos: got 1/);

    await fs.writeFile(path.join(scratch, 'lm1b.txt'), '<S>\n<UNK>\nthe\n');
    const lm1b = await TransformerXLTokenizer.fromFile(path.join(scratch, 'lm1b.txt'));
    expect([...lm1b.encode('the whale', { addDoubleEos: true }).ids]).toEqual([0, 2, 1, 0]);
  });

  test('text that is split already', () => {
    const text = '23 @,@ 500 well @-@ known <eos>';
    expect(ids(text, { pretokenized: true })).toEqual(text.split(' ').map((word) => tokenizer.tokenToId(word) ?? unk));
    expect(ids(text)).not.toEqual(ids(text, { pretokenized: true }));
  });

  test('batches are filled on the right, with <eos>', async () => {
    const batch = tokenizer.encodeBatch(['the sea', 'the'], { addEos: true });
    const [the, sea] = ids('the sea');
    expect(batch.inputIds).toBeInstanceOf(Tensor);
    expect(batch.inputIds.shape).toEqual([2, 3]);
    expect([...(await batch.inputIds.data())]).toEqual([the, sea, eos, the, eos, eos]);
    expect([...(await batch.attentionMask.data())]).toEqual([1, 1, 1, 1, 1, 0]);
    expect([
      ...(await tokenizer.encodeBatch(['the', 'the sea'], { paddingSide: 'left' }).attentionMask.data()),
    ]).toEqual([0, 1, 1, 1]);
  });

  test('ids outside the vocabulary are refused', () => {
    // <formula> is not in this one, and follows it.
    expect(tokenizer.idToToken(tokenizer.vocabSize - 1)).toBe('<formula>');
    for (const id of [-1, tokenizer.vocabSize, 0.5, Number.NaN]) {
      expect(() => tokenizer.decode([0, id])).toThrow(expect.objectContaining({ code: 'ERR_TOKEN_ID' }) as Error);
    }
  });

  test('settings beside the vocabulary', async () => {
    const inside = path.join(scratch, 'settings');
    await fs.mkdir(inside);
    await fs.writeFile(path.join(inside, 'vocab.txt'), 'a\nb\n<unk>\nA.\n\u00e9\n');
    const load = async (settings: unknown) => {
      await fs.writeFile(path.join(inside, 'tokenizer_config.json'), JSON.stringify(settings));
      return TransformerXLTokenizer.fromFolder(inside);
    };
    expect([...(await load({ delimiter: '' })).encode(' ab\u00e9x ').ids]).toEqual([0, 1, 4, 2]);
    const plain = await load({});
    expect([plain.vocabSize, plain.eosTokenId, plain.tokenToId('<formula>')]).toEqual([7, 5, 6]);
    const named = await load({ eos_token: { content: 'b' }, pad_token: 'a', additional_special_tokens: ['<q>'] });
    expect([named.eosTokenId, named.padTokenId, named.tokenToId('<q>'), named.vocabSize]).toEqual([1, 0, 5, 6]);
    const added = await load({
      added_tokens_decoder: { 5: { content: 'ab' }, 6: { content: '<eos>', special: true } },
    });
    expect([...added.encode('xab b <eos>').ids]).toEqual([2, 5, 1, 6]);
    expect(added.decode([0, 5, 1, 6])).toBe('a ab b <eos>');
    expect(added.decode([0, 5, 1, 6], { skipSpecialTokens: true })).toBe('a ab b');
    expect((await load({ clean_up_tokenization_spaces: true })).decode([2, 6, 0])).toBe('<unk> <formula> a');

    const code = (code: string) => expect.objectContaining({ code }) as Error;
    await expect(load({ language: 'de' })).rejects.toThrow(code('ERR_TOKENIZER_UNSUPPORTED'));
    await expect(load({ never_split: ['(a+)+$'] })).rejects.toThrow(code('ERR_TOKENIZER_UNSUPPORTED'));
    await expect(load({ added_tokens_decoder: { 5: { content: 'x', single_word: true } } })).rejects.toThrow(
      code('ERR_TOKENIZER_UNSUPPORTED'),
    );
    await expect(load({ added_tokens_decoder: { 9: { content: 'x' } } })).rejects.toThrow(code('ERR_TOKENIZER_ID'));
    await expect(load({ added_tokens_decoder: { 5: { content: '' } } })).rejects.toThrow(code('ERR_TOKENIZER_FILE'));
    await expect(load({ lower_case: 'yes' })).rejects.toThrow(code('ERR_TOKENIZER_FILE'));
    await expect(load([])).rejects.toThrow(code('ERR_TOKENIZER_FILE'));
  });
});

describe('time is linear in the text', () => {
  const hostile: [string, string][] = [
    ['one word', 'a'],
    ['periods', '.'],
    ['what stands for periods', 'DOT'],
    ['apostrophes', "'"],
    ['commas', ','],
    ['spaces', ' '],
    ['spaces and control characters', ' \x01'],
    ['quotation marks and commas', '",'],
    ['hyphens', 'a-'],
    ['numbers', '1,2.'],
    ['parentheses', '( )'],
    ['abbreviations', 'Mr. '],
    ['a word of periods', 'a.b'],
    ['tokens that are kept', '<EOS>'],
    ['tokens of many spellings', '<EOS><Eos><unK> THISISPROTECTEDXX'],
    ['added tokens', '<eos>'],
    ['beginnings of added tokens', '<eo'],
    ['typography', '“…«\xa0—'],
    ['marks', '\u0301'],
    ['characters of two units', '😀'],
  ];

  /** Units that are copied or put in while a text of about so many units is encoded. */
  function work(unit: string, length: number): number {
    let units = 0;
    const { copy, replace } = AlignedBuilder.prototype;
    const copies = jest.spyOn(AlignedBuilder.prototype, 'copy').mockImplementation(function (
      this: AlignedBuilder,
      from,
      to,
    ) {
      units += to - from;
      copy.call(this, from, to);
    });
    const replaced = jest.spyOn(AlignedBuilder.prototype, 'replace').mockImplementation(function (
      this: AlignedBuilder,
      from,
      to,
      text,
    ) {
      units += to - from + text.length;
      replace.call(this, from, to, text);
    });
    tokenizer.encode(unit.repeat(Math.ceil(length / unit.length)));
    copies.mockRestore();
    replaced.mockRestore();
    return units;
  }

  test.each(hostile)('%s', (_, unit) => {
    const [once, twice] = [work(unit, 2 ** 14), work(unit, 2 ** 15)];
    expect(twice).toBeLessThanOrEqual(2.3 * once);
    // Patterns whose time grew with the square of the text would need minutes here.
    const { ids } = tokenizer.encode(unit.repeat(Math.ceil(2 ** 19 / unit.length)));
    tokenizer.decode(ids);
  });
});

test('a folder saved is the same tokenizer', async () => {
  const saved = path.join(scratch, 'saved');
  const lower = await TransformerXLTokenizer.fromFile(path.join(folder, 'vocab.txt'), { lowerCase: true });
  await lower.save(saved);
  const again = await TransformerXLTokenizer.fromPretrained(saved);
  expect(again.vocabSize).toBe(lower.vocabSize);
  for (const { text, lowerIds } of texts) expect([...again.encode(text).ids]).toEqual(lowerIds);
  expect(await fs.readFile(path.join(saved, 'vocab.txt'))).toEqual(await fs.readFile(path.join(folder, 'vocab.txt')));
});
