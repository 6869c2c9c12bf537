/** Table A of docs/security.md: paths that are no files, headers beyond what is read, files of another model. */
import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XLNetTokenizer, openSafetensors } from '../../lib';
import { readConfigFile } from '../../lib/checkpoints/modelFolder';
import { openTorchCheckpoint } from '../../lib/checkpoints/torchCheckpoint';
import { openWeights } from '../../lib/checkpoints/weights';
import { readLabelledText } from '../../lib/data/labelledText';
import { fixturePath } from '../support/fixtures';

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-bad-'));
});
afterEach(() => fs.rm(folder, { recursive: true }));

interface Reader {
  name: string;
  /** What the file is called. */
  file: string;
  open: (file: string) => Promise<unknown>;
}

const readers: Reader[] = [
  { name: 'safetensors', file: 'model.safetensors', open: openSafetensors },
  { name: 'PyTorch', file: 'pytorch_model.bin', open: openTorchCheckpoint },
  { name: 'index', file: 'model.safetensors.index.json', open: (file) => openWeights(path.dirname(file)) },
  { name: 'configuration', file: 'config.json', open: (file) => readConfigFile(path.dirname(file)) },
  { name: 'tokenizer.json', file: 'tokenizer.json', open: (file) => XLNetTokenizer.fromFile(file) },
  { name: 'spiece.model', file: 'spiece.model', open: (file) => XLNetTokenizer.fromFile(file) },
  { name: 'JSON lines', file: 'data.jsonl', open: readLabelledText },
];

describe.each(readers)('$name', ({ file, open }) => {
  const place = () => path.join(folder, file);
  const refused = async (code: string) => {
    await expect(open(place())).rejects.toMatchObject({
      name: 'XlformersError',
      code,
      message: expect.stringContaining(place()) as string,
    });
  };

  test('a folder', async () => {
    await fs.mkdir(place());
    await refused('ERR_FILE_KIND');
  });

  test('a pipe, which is not waited for', async () => {
    execFileSync('mkfifo', [place()]);
    await refused('ERR_FILE_KIND');
  });

  test('a device without end', async () => {
    await fs.symlink('/dev/zero', place());
    await refused('ERR_FILE_KIND');
  });

  test('a loop of links', async () => {
    await fs.symlink(place(), place());
    await refused('ERR_FILE_READ');
  });

  test('a link to nothing', async () => {
    await fs.symlink(path.join(folder, 'nothing'), place());
    await refused('ERR_FILE_NOT_FOUND');
  });

  test('an empty file', async () => {
    await fs.writeFile(place(), '');
    await expect(open(place())).rejects.toMatchObject({ name: 'XlformersError' });
  });
});

describe('a file that changes while it is open', () => {
  const copy = async () => {
    const file = path.join(folder, 'model.safetensors');
    await fs.copyFile(fixturePath('hf', 'txl-lm-div2', 'model.safetensors'), file);
    return { file, opened: await openSafetensors(file) };
  };

  test('deleted: what is open stays readable', async () => {
    const { file, opened } = await copy();
    await fs.rm(file);
    for (const [name, { begin, end }] of opened.tensors) expect((await opened.read(name)).length).toBe(end - begin);
    await opened.close();
  });

  test.each(['read', 'pieces'] as const)('cut short: an error, by %s', async (how) => {
    const { file, opened } = await copy();
    const [name] = [...opened.tensors].sort(([, a], [, b]) => b.begin - a.begin)[0]!;
    await fs.truncate(file, (await fs.stat(file)).size - 1);
    const reading = async () => {
      if (how === 'read') return opened.read(name);
      for await (const piece of opened.pieces(name)) expect(piece.length).toBeGreaterThan(0);
    };
    await expect(reading()).rejects.toMatchObject({
      code: 'ERR_FILE_READ',
      message: expect.stringContaining(file) as string,
    });
    await opened.close();
  });
});

describe('safetensors headers beyond what is read', () => {
  /** A file of holes but for the length of its header. */
  const sparse = async (length: bigint, size: number) => {
    const file = path.join(folder, 'model.safetensors');
    const first = Buffer.alloc(8);
    first.writeBigUInt64LE(length);
    await fs.writeFile(file, first);
    await fs.truncate(file, size);
    return openSafetensors(file);
  };

  test.each([
    ['all but 7 bytes of the file', 1017n, 1024, 'HEADER_LENGTH'],
    ['the whole file', 1024n, 1024, 'HEADER_LENGTH'],
    ['more than the format allows', 100_000_001n, 2 ** 28, 'HEADER_LENGTH'],
    ['2^31 in a file as large', 2n ** 31n, 2 ** 32, 'HEADER_LENGTH'],
    ['more than is read', 2n ** 24n + 1n, 2 ** 28, 'HEADER_LIMIT'],
  ])('%s', async (_, length, size, code) => {
    await expect(sparse(length, size)).rejects.toMatchObject({ code: `ERR_SAFETENSORS_${code}` });
  });

  test.each<[string, () => string | Buffer, string]>([
    ['half a surrogate pair in a name', () => '{"\\ud800":{}}', 'HEADER_ENCODING'],
    ['half a surrogate pair in the metadata', () => '{"__metadata__":{"a":"\\udc00"}}', 'HEADER_ENCODING'],
    ['UTF-16', () => Buffer.from('{"a":1}', 'utf16le'), 'HEADER_ENCODING'],
    ['a name with NUL by escape', () => '{"a\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 'NAME'],
    ['an array of a million sizes', () => `{"a":{"shape":[${'0,'.repeat(1e6)}0]}}`, 'HEADER_LIMIT'],
    ['a million keys', () => `{${Array.from({ length: 1e6 }, (_, i) => `"${i}":0`).join()}}`, 'ENTRY'],
    ['2 x (2^63 - 1)', () => '{"a":{"dtype":"U8","shape":[2,9223372036854775807],"data_offsets":[0,0]}}', 'OVERFLOW'],
    ['minus zero', () => '{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', 'SHAPE'],
    ['leading zeros', () => '{"a":{"dtype":"U8","shape":[00],"data_offsets":[0,0]}}', 'HEADER_JSON'],
    ['element types known but not read', () => '{"a":{"dtype":"F4","shape":[0],"data_offsets":[0,0]}}', 'DTYPE'],
  ])('%s', async (_, header, code) => {
    const file = path.join(folder, 'model.safetensors');
    const bytes = Buffer.from(header() as string);
    const first = Buffer.alloc(8);
    first.writeBigUInt64LE(BigInt(bytes.length));
    await fs.writeFile(file, Buffer.concat([first, bytes]));
    await expect(openSafetensors(file)).rejects.toMatchObject({
      code: `ERR_SAFETENSORS_${code}`,
      message: expect.stringContaining(file) as string,
    });
  });
});

describe('indexes of several files', () => {
  const index = (text: string) => fs.writeFile(path.join(folder, 'model.safetensors.index.json'), text);
  const many = Array.from({ length: 1001 }, (_, i) => `"t${i}":"${i}.safetensors"`).join();

  test.each([
    ['no JSON', 'hello', 'ERR_CHECKPOINT_INDEX'],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]).toString('latin1'), 'ERR_CHECKPOINT_INDEX'],
    [
      'a tensor in two files by a repeated key',
      '{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}',
      'ERR_CHECKPOINT_INDEX',
    ],
    ['two maps', '{"weight_map":{"x":"a.safetensors"},"weight_map":{}}', 'ERR_CHECKPOINT_INDEX'],
    ['a thousand and one files', `{"weight_map":{${many}}}`, 'ERR_CHECKPOINT_INDEX'],
    ['deep nesting', `{"weight_map":${'['.repeat(1e5)}`, 'ERR_CHECKPOINT_INDEX'],
    ['a name that is hidden', '{"weight_map":{"x":".a.safetensors"}}', 'ERR_PATH'],
    ['a name of white space', '{"weight_map":{"x":" a.safetensors"}}', 'ERR_PATH'],
  ])('%s', async (_, text, code) => {
    await index(text);
    await expect(openWeights(folder)).rejects.toMatchObject({
      code,
      message: expect.stringContaining('model.safetensors.index.json') as string,
    });
  });

  test('a file that is a loop of links', async () => {
    await index('{"weight_map":{"x":"a.safetensors"}}');
    await fs.symlink('a.safetensors', path.join(folder, 'a.safetensors'));
    await expect(openWeights(folder)).rejects.toMatchObject({ code: 'ERR_FILE_READ' });
  });
});
