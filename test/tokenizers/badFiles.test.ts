/** Table C of docs/security.md: damaged and hostile tokenizer files. */
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XLNetTokenizer } from '../../lib';
import { CharsMap } from '../../lib/tokenizers/charsMap';
import { fixturePath, readJson } from '../support/fixtures';

const source = fixturePath('tokenizers', 'xlnet-small');
let folder: string;
beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-tokenizer-'));
});
afterAll(() => fs.rm(folder, { recursive: true }));

async function refused(name: string, content: string | Uint8Array, code: string, words = /./): Promise<void> {
  const file = path.join(folder, name);
  await fs.writeFile(file, content);
  await expect(XLNetTokenizer.fromFile(file)).rejects.toMatchObject({
    name: 'XlformersError',
    code,
    message: expect.stringMatching(words) as string,
  });
}

describe('spiece.model', () => {
  const field = (tag: number, ...content: (number | Buffer)[]) => {
    const bytes = Buffer.concat(content.map((part) => (typeof part === 'number' ? Buffer.from([part]) : part)));
    return Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
  };
  const float = (value: number) => {
    const bytes = Buffer.alloc(5, 0x15);
    bytes.writeFloatLE(value, 1);
    return bytes;
  };
  const piece = (text: string | Buffer, score = -1) =>
    field(0x0a, field(0x0a, Buffer.from(text as string)), float(score));
  const ff = (count: number) => Buffer.alloc(count, 0xff);

  test.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['no pieces', field(0x12)],
    ['a varint that ends early', ff(3)],
    ['a varint of ten bytes beyond 64 bits', Buffer.concat([Buffer.from([0x0a]), ff(9), Buffer.from([2])])],
    ['a varint of eleven bytes', ff(11)],
    ['a length beyond the file', Buffer.from([0x0a, 100, 1])],
    ['a length of 2^63', Buffer.concat([Buffer.from([0x0a]), Buffer.alloc(8, 0x80), Buffer.from([0x80, 1])])],
    ['the start of a group', Buffer.from([0x0b])],
    ['the end of a group', Buffer.from([0x0c])],
    ['a wire type that does not exist', Buffer.from([0x0f])],
    ['field 0', Buffer.from([0x02, 0])],
    ['field 2^29', Buffer.from([0x80, 0x80, 0x80, 0x80, 0x10, 0])],
    ['a score that is NaN', piece('a', NaN)],
    ['a score that is infinite', piece('a', -Infinity)],
    ['a score of -1e30', piece('a', -1e30)],
    ['a score that is a string', field(0x0a, field(0x0a, Buffer.from('a')), field(0x12, 1))],
    ['an empty piece', piece('')],
    ['a piece without a text', field(0x0a, float(-1))],
    ['a piece twice', Buffer.concat([piece('a'), piece('b'), piece('a')])],
    ['a piece that is not UTF-8', piece(Buffer.from([0xc3, 0x28]))],
    ['half a surrogate pair in UTF-8', piece(Buffer.from([0xed, 0xa0, 0x80]))],
    ['text', Buffer.from('hello, world, this is no model')],
  ])('%s', (_, content) =>
    refused('spiece.model', content, 'ERR_TOKENIZER_PROTO', /before byte \d+; the file is damaged/),
  );

  test('a piece of 600 characters, a million pieces too many', async () => {
    const text = Buffer.from('x'.repeat(600));
    const inner = Buffer.concat([Buffer.from([0x0a, 0xd8, 0x04]), text]);
    await refused(
      'spiece.model',
      Buffer.concat([Buffer.from([0x0a, 0xdb, 0x04]), inner]),
      'ERR_TOKENIZER_PROTO',
      /512/,
    );
    const pieces: Buffer[] = [];
    for (let index = 0; index <= 2 ** 20; index += 1)
      pieces.push(field(0x0a, field(0x0a, Buffer.from(index.toString(36)))));
    await refused('spiece.model', Buffer.concat(pieces), 'ERR_TOKENIZER_PROTO', /more than 1048576 pieces/);
  });

  test('cut off anywhere', async () => {
    const whole = await fs.readFile(path.join(source, 'spiece.model'));
    for (const share of [0.001, 0.1, 0.5, 0.9, 0.9999]) {
      const file = path.join(folder, 'spiece.model');
      await fs.writeFile(file, whole.subarray(0, Math.floor(share * whole.length)));
      await expect(XLNetTokenizer.fromFile(file)).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_TOKENIZER_(PROTO|UNSUPPORTED)$/) as string,
      });
    }
  });

  test('more than 32 MB are not read', async () => {
    const file = path.join(folder, 'spiece.model');
    await fs.writeFile(file, '');
    await fs.truncate(file, 2 ** 25 + 1);
    await expect(XLNetTokenizer.fromFile(file)).rejects.toMatchObject({ code: 'ERR_TOKENIZER_FILE' });
  });
});

describe('normalization tables', () => {
  /** Units of a double array, then replacements. */
  const table = (units: number[] | Uint32Array, strings: Buffer) => {
    const bytes = Buffer.alloc(4 + 4 * units.length);
    bytes.writeUInt32LE(4 * units.length);
    units.forEach((unit, index) => bytes.writeUInt32LE(unit >>> 0, 4 + 4 * index));
    return Buffer.concat([bytes, strings]);
  };
  const unit = (label: number, offset: number, leaf = false) => (offset << 10) | (leaf ? 0x100 : 0) | label;
  const strings = Buffer.from('x\0');
  /** 'a' → a block of children at 256, where the value stands. */
  const rule = (value: number) => {
    const units = new Uint32Array(512);
    units[0] = unit(0, 0);
    units[97] = unit(97, 97 ^ 256, true);
    units[256] = 0x80000000 | value;
    return units;
  };

  test('a sound one is read', () => {
    expect(new CharsMap(table(rule(0), strings)).find('ab', 0, true)).toBe('x');
  });

  test.each<[string, () => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['a trie beyond the blob', () => Buffer.from([255, 255, 255, 255, 0, 0])],
    ['a trie of no units', () => Buffer.alloc(8)],
    ['a trie of half a unit', () => Buffer.from([6, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ['children beyond the trie', () => table([unit(0, 2 ** 20)], strings)],
    ['a replacement beyond the blob', () => table(rule(5), strings)],
    ['a replacement without an end', () => table(rule(0), Buffer.from('xyz'))],
    ['a replacement of a kilobyte', () => table(rule(0), Buffer.from(`${'x'.repeat(1024)}\0`))],
    ['a replacement that is not UTF-8', () => table(rule(0), Buffer.from([0xff, 0]))],
    [
      'a key that never ends, since its node is its own child',
      () => {
        const units = new Uint32Array(256);
        units[97] = unit(97, 97);
        return table(units, strings);
      },
    ],
    [
      "a key that never ends, since two nodes are each other's children",
      () => {
        const units = new Uint32Array(512);
        units[97] = unit(97, 97 ^ 256);
        units[256 + 98] = unit(98, 256 + 98);
        return table(units, strings);
      },
    ],
    ['5 MB of trie', () => table(new Uint32Array(2 ** 20 + 1), strings)],
  ])('%s', (_, make) => {
    expect(() => new CharsMap(make())).toThrow(
      expect.objectContaining({
        code: 'ERR_TOKENIZER_PROTO',
        message: expect.stringContaining('precompiled charsmap') as string,
      }) as Error,
    );
  });
});

describe('tokenizer.json', () => {
  interface File {
    model: Record<string, unknown> & { vocab: [string, number][] };
    added_tokens: Record<string, unknown>[];
    normalizer: { normalizers: Record<string, unknown>[] };
    [name: string]: unknown;
  }
  const sound = (): File => readJson<File>(source, 'tokenizer.json');
  const step = (normalizer: Record<string, unknown>) => (file: File) => {
    file.normalizer.normalizers.unshift(normalizer);
  };
  const replace = (pattern: Record<string, unknown>, content = 'x') => step({ type: 'Replace', pattern, content });
  const token = (change: Record<string, unknown>) => (file: File) => {
    file.added_tokens.push({ ...file.added_tokens[0], ...change });
  };

  test.each<[string, (file: File) => void, string]>([
    ['a regular expression that takes for ever', replace({ Regex: '(a+)+$' }), 'UNSUPPORTED'],
    ['a regular expression with lookbehind', replace({ Regex: '(?<=a)b' }), 'UNSUPPORTED'],
    ['a regular expression of a megabyte', replace({ Regex: 'a|'.repeat(2 ** 19) }), 'UNSUPPORTED'],
    ['the known regular expression with another replacement', replace({ Regex: ' {2,}' }, '  '), 'UNSUPPORTED'],
    ['an empty pattern', replace({ String: '' }), 'UNSUPPORTED'],
    ['a pattern of a kilobyte', replace({ String: 'a'.repeat(1024) }), 'UNSUPPORTED'],
    ['a replacement that makes much of little', replace({ String: 'a' }, 'a'.repeat(100)), 'UNSUPPORTED'],
    [
      'forty steps that double an a',
      (file) => Array.from({ length: 40 }, () => replace({ String: 'a' }, 'aa')(file)),
      'UNSUPPORTED',
    ],
    ['an unknown step', step({ type: 'Exec', command: 'true' }), 'UNSUPPORTED'],
    ['a step without a type', step({}), 'FILE'],
    ['a step that is none', (file) => (file.normalizer.normalizers as unknown[]).unshift(5), 'FILE'],
    ['a table that is no base64', step({ type: 'Precompiled', precompiled_charsmap: '!!' }), 'PROTO'],
    ['another model', (file) => (file.model.type = 'BPE'), 'UNSUPPORTED'],
    [
      'another pre-tokenizer',
      (file) => (file.pre_tokenizer = { type: 'Split', pattern: { Regex: '(a+)+$' } }),
      'UNSUPPORTED',
    ],
    ['another post-processor', (file) => (file.post_processor = { type: 'RobertaProcessing' }), 'UNSUPPORTED'],
    ['an empty added token', token({ content: '', id: 0 }), 'ID'],
    ['an added token of a kilobyte', token({ content: 'x'.repeat(1024) }), 'UNSUPPORTED'],
    ['an added token that is half a character', token({ content: '\ud800' }), 'UNSUPPORTED'],
    ['a negative id', token({ content: 'new', id: -1 }), 'ID'],
    ['a fractional id', token({ content: 'new', id: 1.5 }), 'ID'],
    ['an id beyond the vocabulary', token({ content: 'new', id: 10 ** 6 }), 'ID'],
    ['an id that is taken', token({}), 'ID'],
    [
      'a hundred thousand added tokens',
      (file) => {
        file.added_tokens = Array.from({ length: 100_000 }, (_, id) => ({ ...file.added_tokens[0], id }));
      },
      'UNSUPPORTED',
    ],
    ['a piece twice', (file) => file.model.vocab.push([...file.model.vocab[9]!]), 'ID'],
    ['a piece that is half a character', (file) => file.model.vocab.push(['\udc00', -1]), 'FILE'],
    ['a piece of a kilobyte', (file) => file.model.vocab.push(['x'.repeat(1024), -1]), 'FILE'],
    ['a score that is a string', (file) => (file.model.vocab as unknown[][]).push(['new', '-1']), 'FILE'],
    ['a score of -1e300', (file) => file.model.vocab.push(['new', -1e300]), 'FILE'],
    ['no unknown piece', (file) => (file.model.unk_id = null), 'ID'],
    ['an unknown piece beyond the vocabulary', (file) => (file.model.unk_id = 10 ** 6), 'ID'],
    ['a vocabulary that is an object', (file) => ((file.model as Record<string, unknown>).vocab = {}), 'FILE'],
    ['no model', (file) => delete (file as Record<string, unknown>).model, 'FILE'],
  ])('%s', async (_, change, code) => {
    const file = sound();
    change(file);
    await refused(
      'tokenizer.json',
      JSON.stringify(file),
      `ERR_TOKENIZER_${code}`,
      /tokenizer\.json|vocabulary|charsmap/,
    );
  });

  test.each([
    ['no JSON', 'hello'],
    ['a list', '[]'],
    ['nesting', '['.repeat(500_000)],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ])('%s', (_, content) => refused('tokenizer.json', content, 'ERR_TOKENIZER_FILE'));

  test('names of prototypes are plain names', async () => {
    const text = JSON.stringify(sound());
    const file = path.join(folder, 'tokenizer.json');
    await fs.writeFile(file, `{"__proto__":{"model":null},"constructor":1,${text.slice(1)}`);
    expect((await XLNetTokenizer.fromFile(file)).encode('Hello').ids.length).toBeGreaterThan(2);
  });
});
