import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AutoTokenizer, ByteLevelTokenizer, Tokenizer, TransformerXLTokenizer, XLNetTokenizer } from '../../lib';
import { fixturePath } from '../support/fixtures';

const xlnet = fixturePath('tokenizers', 'xlnet-small');
const words = fixturePath('tokenizers', 'transformer-xl-small');
let scratch: string;
let folder: string;
beforeAll(async () => {
  scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-auto-'));
});
beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(scratch, 'model-'));
});
afterAll(() => fs.rm(scratch, { recursive: true }));

const put = (from: string, ...names: string[]) =>
  Promise.all(names.map((name) => fs.copyFile(path.join(from, name), path.join(folder, name))));
const json = (name: string, value: unknown) => fs.writeFile(path.join(folder, name), JSON.stringify(value));

test.each([
  ['tokenizer.json', xlnet, XLNetTokenizer],
  ['spiece.model', xlnet, XLNetTokenizer],
  ['vocab.txt', words, TransformerXLTokenizer],
  ['vocab.pkl', words, TransformerXLTokenizer],
  ['vocab.bin', words, TransformerXLTokenizer],
])('%s', async (name, from, kind) => {
  await put(from, name);
  expect(await AutoTokenizer.fromPretrained(folder)).toBeInstanceOf(kind);
});

test('bytes, where config.json speaks of 256 ids', async () => {
  await json('config.json', { model_type: 'transfo-xl', vocab_size: 256 });
  expect(await AutoTokenizer.fromPretrained(folder)).toBeInstanceOf(ByteLevelTokenizer);
});

test('files of two kinds: the class of the tokenizer decides, else the type of the model', async () => {
  await put(xlnet, 'spiece.model');
  await put(words, 'vocab.txt');
  await expect(AutoTokenizer.fromPretrained(folder)).rejects.toMatchObject({
    code: 'ERR_TOKENIZER_FILE',
    message: expect.stringMatching(/has spiece.model and vocab.txt, .* XLNetTokenizer.fromPretrained or/) as string,
  });
  await json('config.json', { model_type: 'transfo-xl' });
  expect(await AutoTokenizer.fromPretrained(folder)).toBeInstanceOf(TransformerXLTokenizer);
  await json('config.json', { model_type: 'xlnet' });
  expect(await AutoTokenizer.fromPretrained(folder)).toBeInstanceOf(XLNetTokenizer);
  await json('tokenizer_config.json', { tokenizer_class: 'TransfoXLTokenizer' });
  expect(await AutoTokenizer.fromPretrained(folder)).toBeInstanceOf(TransformerXLTokenizer);
});

test('nothing to go by', async () => {
  await expect(AutoTokenizer.fromPretrained(folder)).rejects.toThrow(
    /has no tokenizer; looked for tokenizer.json, spiece.model, vocab.txt/,
  );
  await json('config.json', { model_type: 'xlnet', vocab_size: 32000 });
  await expect(AutoTokenizer.fromPretrained(folder)).rejects.toThrow(/vocab_size is 32000, expected 256 for bytes/);
  await fs.writeFile(path.join(folder, 'config.json'), '{');
  await expect(AutoTokenizer.fromPretrained(folder)).rejects.toMatchObject({ code: 'ERR_TOKENIZER_FILE' });
  await expect(AutoTokenizer.fromPretrained('../../nowhere')).rejects.toMatchObject({ code: 'ERR_PATH' });
});

test('all are used alike', async () => {
  const tokenizers: Tokenizer[] = [
    await AutoTokenizer.fromPretrained(xlnet),
    await AutoTokenizer.fromPretrained(words),
    new ByteLevelTokenizer(),
  ];
  for (const tokenizer of tokenizers) {
    const text = 'the sea';
    const { ids, typeIds, tokens, offsets, attentionMask } = tokenizer.encode(text, { addSpecialTokens: false });
    for (const { length } of [typeIds, tokens, offsets, attentionMask]) expect(length).toBe(ids.length);
    expect(tokens.map((token) => tokenizer.tokenToId(token))).toEqual([...ids]);
    expect([...ids].map((id) => tokenizer.idToToken(id))).toEqual(tokens);
    expect(tokenizer.decode(ids)).toBe(text);
    const { inputIds, attentionMask: mask } = tokenizer.encodeBatch([text, 'the']);
    expect(inputIds.shape).toEqual(mask.shape);
  }
});

describe('bytes', () => {
  const tokenizer = new ByteLevelTokenizer();

  test('of any text, and back', () => {
    const text = 'aé\n日😀\0';
    const { ids, tokens, offsets } = tokenizer.encode(text);
    expect([...ids]).toEqual([...Buffer.from(text)]);
    expect(tokens.slice(0, 4)).toEqual(['a', '<0xC3>', '<0xA9>', '<0x0A>']);
    expect(offsets.map(([start, end]) => text.slice(start, end)).join('')).toBe('aéé\n日日日😀😀😀😀\0');
    expect(tokenizer.decode(ids)).toBe(text);
    expect(new Set(Array.from({ length: 256 }, (_, id) => tokenizer.idToToken(id))).size).toBe(256);
  });

  test('lone surrogates count as U+FFFD', () => {
    expect(tokenizer.decode(tokenizer.encode('a\ud800b\udc00').ids)).toBe('a\ufffdb\ufffd');
  });

  test('a text and its pair, cut, in batches', async () => {
    const { ids, typeIds } = tokenizer.encode('abc', { pair: 'de', truncation: true, maxLength: 3 });
    expect([...ids]).toEqual([...Buffer.from('abd')]);
    expect([...typeIds]).toEqual([0, 0, 1]);
    const { inputIds, attentionMask } = tokenizer.encodeBatch(['ab', 'c']);
    expect([...(await inputIds.data())]).toEqual([97, 98, 99, 0]);
    expect([...(await attentionMask.data())]).toEqual([1, 1, 1, 0]);
  });

  test('one by one', () => {
    const decoder = tokenizer.stream();
    expect([0xe2, 0x82, 0xac, 0x41].map((byte) => decoder.push(byte))).toEqual(['', '', '€', 'A']);
    expect(decoder.end()).toBe('');
    expect(() => tokenizer.decode([256])).toThrow(/ids\[0\]: got 256/);
  });
});
