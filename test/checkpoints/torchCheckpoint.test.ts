import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openTorchCheckpoint } from '../../lib/checkpoints/torchCheckpoint';
import { unpickle } from '../../lib/checkpoints/unpickle';
import { fixturePath } from '../support/fixtures';
import {
  int,
  pickle,
  sixFloats,
  stateDictPickle,
  type TensorSketch,
  text,
  torchZip,
  tuple,
  zip,
} from '../support/torchFiles';

let folder: string;
beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-torch-'));
});
afterAll(() => fs.rm(folder, { recursive: true }));

async function open(bytes: Uint8Array) {
  const file = path.join(folder, 'model.bin');
  await fs.writeFile(file, bytes);
  return openTorchCheckpoint(file);
}

async function readWeight(sketch: TensorSketch): Promise<number[]> {
  const checkpoint = await open(torchZip(stateDictPickle(sketch)));
  try {
    return Array.from(new Float32Array((await checkpoint.read('weight')).buffer));
  } finally {
    await checkpoint.close();
  }
}

const legacyFile = fixturePath('hf', 'xlnet-classify', 'pytorch_model.bin');
const zipFile = fixturePath('hf', 'xlnet-lm-plain', 'pytorch_model.bin');

describe('what PyTorch writes', () => {
  test('tensors lie where their offsets and strides say', async () => {
    expect(await readWeight({})).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await readWeight({ shape: [3, 2], strides: [1, 3] })).toEqual([0, 3, 1, 4, 2, 5]);
    expect(await readWeight({ offset: 2, shape: [2], strides: [2] })).toEqual([2, 4]);
    expect(await readWeight({ offset: 1, shape: [], strides: [] })).toEqual([1]);
    expect(await readWeight({ shape: [0, 3], strides: [3, 1] })).toEqual([]);
    expect(await readWeight({ shape: [2, 1, 2], strides: [3, 7, 1] })).toEqual([0, 1, 3, 4]);
  });

  test('both formats give names, types and shapes', async () => {
    for (const file of [legacyFile, zipFile]) {
      const checkpoint = await openTorchCheckpoint(file);
      const embedding = checkpoint.tensors.get('transformer.word_embedding.weight');
      expect(embedding).toEqual({ dtype: 'F32', shape: [100, 32] });
      expect((await checkpoint.read('transformer.mask_emb')).length).toBe(4 * 32);
      expect(() => checkpoint.read('nothing')).rejects.toThrow(/no tensor 'nothing'/);
      await checkpoint.close();
    }
  });

  test('dictionaries of training scripts are looked into', async () => {
    const inner = stateDictPickle().subarray(2, -1);
    const checkpoint = await open(
      torchZip(pickle(0x80, 2, '}', text('epoch'), int(3), 's', text('state_dict'), inner, 's', '.')),
    );
    expect([...checkpoint.tensors.keys()]).toEqual(['weight']);
    await checkpoint.close();
  });
});

describe('nothing in a pickle is executed', () => {
  const canary = () => path.join(folder, 'canary');
  const call = (module: string, name: string, argument: string) =>
    pickle(0x80, 2, Buffer.from(`c${module}\n${name}\n`), tuple(text(argument)), 'R', '.');
  const cases: [string, () => Buffer, string][] = [
    ['os.system', () => call('posix', 'system', `touch ${canary()}`), "'posix.system'"],
    ['eval', () => call('builtins', 'eval', '1'), "'builtins.eval'"],
    ['getattr', () => call('builtins', 'getattr', '1'), "'builtins.getattr'"],
    ['exec', () => call('builtins', 'exec', '1'), "'builtins.exec'"],
    ['__import__', () => call('__builtin__', '__import__', 'os'), "'__builtin__.__import__'"],
    ['nt.system', () => call('nt', 'system', 'calc'), "'nt.system'"],
    ['runpy', () => call('runpy', '_run_code', '1'), "'runpy._run_code'"],
    ['an encoder', () => call('_codecs', 'encode', 'x'), "'_codecs.encode'"],
    ['a name with a character of no width', () => call('collections', 'OrderedDict\u200b', ''), 'OrderedDict\u200b'],
    [
      'STACK_GLOBAL of remembered text',
      () =>
        pickle(
          text('posix'),
          0x94,
          '0',
          text('system'),
          0x94,
          '0',
          'h',
          0,
          'h',
          1,
          0x93,
          tuple(text(`touch ${canary()}`)),
          'R',
          '.',
        ),
      "'posix.system'",
    ],
    ['INST', () => pickle('(', text(`touch ${canary()}`), 'iposix\nsystem\n', '.'), "'posix.system'"],
    ['subprocess', () => call('subprocess', 'Popen', 'true'), "'subprocess.Popen'"],
    ['torch.load', () => call('torch', 'load', 'x'), "'torch.load'"],
    ['a name that looks like a harmless one', () => call('collections', 'OrderedDict ', ''), 'OrderedDict'],
    ['a dotted name', () => call('collections', 'OrderedDict.__init__.__globals__', ''), '__globals__'],
    [
      'STACK_GLOBAL',
      () => pickle(0x80, 4, text('os'), text('system'), 0x93, tuple(text(`touch ${canary()}`)), 'R', '.'),
      "'os.system'",
    ],
    ['NEWOBJ', () => pickle(0x80, 2, 'csubprocess\nPopen\n', tuple(text('true')), 0x81, '.'), "'subprocess.Popen'"],
  ];
  /** Processes that this one has started. */
  const children = () => fs.readFile(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').catch(() => '');

  test.each(cases)('%s is refused by name', async (_, make, name) => {
    const before = await children();
    await expect(open(torchZip(make()))).rejects.toMatchObject({
      code: 'ERR_PICKLE_GLOBAL',
      message: expect.stringMatching(
        new RegExp(`pickle, byte \\d+: asks for .*${name.replaceAll('.', '\\.')}`),
      ) as string,
    });
    await expect(fs.access(canary())).rejects.toThrow();
    expect(await children()).toBe(before);
  });

  test.each([
    ['INST', pickle('(', 'icollections\nOrderedDict\n', '.'), 'ERR_PICKLE_OPCODE'],
    ['INST of a function', pickle('(', 'ios\nsystem\n', '.'), 'ERR_PICKLE_GLOBAL'],
    ['OBJ', pickle('(', 'ccollections\nOrderedDict\n', 'o', '.'), 'ERR_PICKLE_OPCODE'],
    ['NEWOBJ_EX', pickle('ccollections\nOrderedDict\n', ')', '}', 0x92, '.'), 'ERR_PICKLE_OPCODE'],
    ['EXT1', pickle(0x82, 1, '.'), 'ERR_PICKLE_OPCODE'],
    ['EXT2', pickle(0x83, 1, 0, '.'), 'ERR_PICKLE_OPCODE'],
    ['EXT4', pickle(0x84, 1, 0, 0, 0, '.'), 'ERR_PICKLE_OPCODE'],
    ['BINPERSID where none is allowed', pickle('N', 'Q', '.'), 'ERR_PICKLE_OPCODE'],
    ['an out-of-band buffer', pickle(0x97, '.'), 'ERR_PICKLE_OPCODE'],
    ['BUILD with __setstate__', pickle(')', '}', text('__setstate__'), 'N', 's', 'b', '.'), 'ERR_PICKLE_OPCODE'],
    ['NEWOBJ of a value', pickle('N', ')', 0x81, '.'), 'ERR_PICKLE_OPCODE'],
    [
      'REDUCE of what another call made',
      pickle('ccollections\nOrderedDict\n', ')', 'R', ')', 'R', '.'),
      'ERR_PICKLE_OPCODE',
    ],
    ['REDUCE with a list', pickle('ccollections\nOrderedDict\n', ']', 'R', '.'), 'ERR_PICKLE_STACK'],
    ['STACK_GLOBAL of numbers', pickle('N', 'N', 0x93, '.'), 'ERR_PICKLE_STACK'],
    ['PERSID', pickle('Pabc\n', '.'), 'ERR_PICKLE_OPCODE'],
    ['BUILD on a list', pickle(']', '}', 'b', '.'), 'ERR_PICKLE_OPCODE'],
    ['protocol 6', pickle(0x80, 6, 'N', '.'), 'ERR_PICKLE_OPCODE'],
    ['a call of a type', pickle('c__builtin__\nint\n', ')', 'R', '.'), 'ERR_PICKLE_OPCODE'],
    ['a call of text', pickle(text('x'), ')', 'R', '.'), 'ERR_PICKLE_OPCODE'],
  ])('%s is refused', (_, bytes, code) => {
    expect(() => unpickle(bytes, { file: 'x.pkl' })).toThrow(expect.objectContaining({ code }) as Error);
  });
});

describe('damaged pickles are refused', () => {
  const huge = Buffer.alloc(9, 0xff);
  test.each([
    ['every opcode on an empty stack', null, ''],
    ['a mark that is not there', pickle('t', '.'), 'ERR_PICKLE_STACK'],
    ['a pop across a mark', pickle('N', '(', '0', '.'), 'ERR_PICKLE_STACK'],
    ['values left over', pickle('N', 'N', '.'), 'ERR_PICKLE_STACK'],
    ['a key without a value', pickle('(', 'N', 'd', '.'), 'ERR_PICKLE_STACK'],
    ['an entry for a list', pickle(']', 'N', 'N', 's', '.'), 'ERR_PICKLE_STACK'],
    ['an append to a dictionary', pickle('}', 'N', 'a', '.'), 'ERR_PICKLE_STACK'],
    ['a memo that was never set', pickle('h', 7, '.'), 'ERR_PICKLE_STACK'],
    ['memo 2^32 - 1', pickle('j', 0xff, 0xff, 0xff, 0xff, '.'), 'ERR_PICKLE_STACK'],
    ['a memo of text', pickle('gabc\n', '.'), 'ERR_PICKLE_STACK'],
    ['a remembered nothing', pickle('q', 0, '.'), 'ERR_PICKLE_STACK'],
    ['odd SETITEMS', pickle('}', '(', 'N', 'u', '.'), 'ERR_PICKLE_STACK'],
    ['SETITEMS on a list', pickle(']', '(', 'N', 'N', 'u', '.'), 'ERR_PICKLE_STACK'],
    ['APPENDS on a tuple', pickle(')', '(', 'N', 'e', '.'), 'ERR_PICKLE_STACK'],
    ['ADDITEMS on a list', pickle(']', '(', 'N', 0x90, '.'), 'ERR_PICKLE_STACK'],
    ['bytes of 2^63', pickle(0x96, Buffer.from([0, 0, 0, 0, 0, 0, 0, 0x80]), '.'), 'ERR_PICKLE_TRUNCATED'],
    ['a negative string length', pickle('T', 0xff, 0xff, 0xff, 0xff, '.'), 'ERR_PICKLE_STACK'],
    ['an integer of letters', pickle('Iabc\n', '.'), 'ERR_PICKLE_STACK'],
    ['an integer of 2,000 digits', pickle(`L${'9'.repeat(2000)}L\n`, '.'), 'ERR_PICKLE_STACK'],
    ['a line without an end', pickle('Iabc'), 'ERR_PICKLE_TRUNCATED'],
    ['a negative LONG4', pickle(0x8b, 0xff, 0xff, 0xff, 0xff, '.'), 'ERR_PICKLE_STACK'],
    ['a LONG4 of 2 GB', pickle(0x8b, 0xff, 0xff, 0xff, 0x7f, '.'), 'ERR_PICKLE_LIMIT'],
    ['text of 2^64 bytes', pickle(0x8d, huge.subarray(0, 8), '.'), 'ERR_PICKLE_TRUNCATED'],
    ['a frame beyond the end', pickle(0x95, huge.subarray(0, 8), 'N', '.'), 'ERR_PICKLE_TRUNCATED'],
    ['no end', pickle('N'), 'ERR_PICKLE_TRUNCATED'],
    ['nothing', pickle(), 'ERR_PICKLE_TRUNCATED'],
    ['text that is not UTF-8', pickle(0x8c, 1, 0xff, '.'), 'ERR_PICKLE_STACK'],
  ])('%s', (_, bytes, code) => {
    if (bytes) {
      expect(() => unpickle(bytes, { file: 'x.pkl' })).toThrow(expect.objectContaining({ code }) as Error);
      return;
    }
    // With nothing, a value, a mark, and values above a mark on the stack.
    for (const before of ['', 'N', '(', '(N', 'N(N', '](', '}(N']) {
      for (let opcode = 0; opcode < 256; opcode += 1) {
        // Constants and empty containers are whole pickles; everything else is refused in words.
        try {
          unpickle(pickle(before, opcode, '.'), { file: 'x.pkl' });
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/^ERR_PICKLE_/);
        }
      }
    }
  });

  test('a million nested tuples are refused, thousands are not', () => {
    const nested = (depth: number) => pickle(Buffer.alloc(depth, '('), 'N', Buffer.alloc(depth, 't'), '.');
    expect(() => unpickle(nested(10_000), { file: 'x.pkl' })).not.toThrow();
    expect(() => unpickle(nested(1_000_000), { file: 'x.pkl' })).toThrow(
      expect.objectContaining({ code: 'ERR_PICKLE_LIMIT' }) as Error,
    );
  });

  test('shared references cost what they weigh', () => {
    // Billion laughs: each list holds the one before ten times, by reference.
    const laughs = pickle(
      ']',
      'q',
      0,
      ...Array.from({ length: 60 }, (_, i) =>
        pickle('(', ...new Array<Buffer>(10).fill(pickle('h', i)), 'l', 'q', i + 1),
      ),
    );
    const whole = pickle('(', laughs, 't', '.');
    expect(() => unpickle(whole, { file: 'x.pkl' })).not.toThrow();
  });

  const dictionary = pickle('}', '(', ...Array.from({ length: 30_000 }, (_, i) => pickle(int(i), 'N')), 'u', 'q', 0);
  test.each([
    ['dictionaries of one byte each', pickle('(', Buffer.alloc(500_000, '}'), 't', '.')],
    ['marks', Buffer.alloc(9_000_000, '(')],
    ['memo entries', pickle('N', Buffer.alloc(2_000_000, 0x94), '.')],
    ['values', pickle('N', Buffer.alloc(5_000_000, '2'), '.')],
    [
      'copies of a dictionary',
      pickle(
        dictionary,
        ...new Array<Buffer>(3000).fill(pickle('ccollections\nOrderedDict\n', 'h', 0, 0x85, 'R', '0')),
      ),
    ],
  ])('%s without end are refused before they fill the memory', (_, bytes) => {
    expect(() => unpickle(bytes, { file: 'x.pkl' })).toThrow(
      expect.objectContaining({ code: 'ERR_PICKLE_LIMIT' }) as Error,
    );
  });

  test('a dictionary that is its own state dict is no checkpoint', async () => {
    const data = pickle(0x80, 2, '}', 'q', 0, text('state_dict'), 'h', 0, 's', '.');
    await expect(open(torchZip(data))).rejects.toMatchObject({ code: 'ERR_TORCH' });
  });
});

describe('tensors that do not fit their storages are refused', () => {
  test.each<[string, TensorSketch, string]>([
    ['a storage that is not there', { key: text('9') }, 'ERR_TORCH_STORAGE'],
    ['a storage of another size', { size: 7, shape: [1], strides: [1] }, 'ERR_TORCH_STORAGE'],
    ['a key that is no text', { key: int(0) }, 'ERR_TORCH_STORAGE'],
    ['a key that is a path', { key: text('../../etc/passwd') }, 'ERR_TORCH_STORAGE'],
    ['sizes beyond the storage', { shape: [3, 3] }, 'ERR_TORCH_STRIDE'],
    ['an offset beyond the storage', { offset: 1 }, 'ERR_TORCH_STRIDE'],
    ['a negative offset', { offset: -1 }, 'ERR_TORCH_STRIDE'],
    ['a negative stride', { strides: [3, -1] }, 'ERR_TORCH_STRIDE'],
    ['a negative size', { shape: [-2, 3] }, 'ERR_TORCH_STRIDE'],
    ['one element shown 2^40 times', { shape: [2 ** 20, 2 ** 20], strides: [0, 0] }, 'ERR_TORCH_STRIDE'],
    ['sizes without strides', { strides: [3] }, 'ERR_TORCH_STRIDE'],
    ['a quantized storage', { type: 'QInt8Storage' }, 'ERR_PICKLE_GLOBAL'],
    ['a sparse tensor', { rebuild: 'torch._utils\n_rebuild_sparse_tensor' }, 'ERR_TORCH_UNSUPPORTED'],
    ['a quantized tensor', { rebuild: 'torch._utils\n_rebuild_qtensor' }, 'ERR_TORCH_UNSUPPORTED'],
    ['a tensor of a class of its own', { rebuild: 'torch._tensor\n_rebuild_from_type_v2' }, 'ERR_TORCH_UNSUPPORTED'],
    ['an object for requires_grad', { requiresGrad: pickle('}') }, 'ERR_TORCH_UNSUPPORTED'],
    ['hooks', { hooks: pickle('}', text('hook'), 'N', 's') }, 'ERR_TORCH_UNSUPPORTED'],
    ['9 sizes', { shape: new Array<number>(9).fill(1), strides: new Array<number>(9).fill(1) }, 'ERR_TORCH_STRIDE'],
  ])('%s', async (_, sketch, code) => {
    await expect(open(torchZip(stateDictPickle(sketch)))).rejects.toMatchObject({ code });
  });

  test.each([
    ['a number', pickle(0x80, 2, 'K', 1, '.')],
    ['a dictionary without tensors', pickle(0x80, 2, '}', '.')],
  ])('%s is no checkpoint', async (_, data) => {
    await expect(open(torchZip(data))).rejects.toMatchObject({ code: 'ERR_TORCH' });
  });
});

describe('damaged archives are refused', () => {
  const good = { name: 'archive/data.pkl', data: stateDictPickle() };
  const storage = { name: 'archive/data/0', data: sixFloats };
  const bomb = { name: 'archive/data/1', data: Buffer.alloc(64), lie: { method: 8, size: 2 ** 31 } };
  test.each<[string, () => Buffer, string]>([
    ['compressed entries', () => zip([good, { ...storage, lie: { method: 8 } }]), 'ERR_ZIP'],
    ['a zip bomb', () => zip([good, storage, bomb]), 'ERR_ZIP'],
    ['overlapping entries', () => zip([good, { ...storage, lie: { size: 4096 } }]), 'ERR_ZIP'],
    ['encrypted entries', () => zip([good, { ...storage, lie: { flags: 1 } }]), 'ERR_ZIP'],
    ['headers that disagree', () => zip([good, { ...storage, lie: { localName: 'archive/data/7' } }]), 'ERR_ZIP'],
    ['an entry outside', () => zip([good, storage, { name: '../../x', data: sixFloats }]), 'ERR_ZIP'],
    ['an absolute entry', () => zip([good, storage, { name: '/etc/x', data: sixFloats }]), 'ERR_ZIP'],
    ['an entry twice', () => zip([good, storage, good]), 'ERR_ZIP'],
    ['a wrong count', () => zip([good, storage], { count: 1 }), 'ERR_ZIP'],
    ['more entries than it has', () => zip([good, storage], { count: 65_534 }), 'ERR_ZIP'],
    ['bytes after its end', () => zip([good, storage], { trailing: Buffer.alloc(40) }), 'ERR_ZIP'],
    ['a comment', () => zip([good, storage], { comment: Buffer.from('hello') }), 'ERR_ZIP'],
    ['a second end in the comment', () => zip([good, storage], { comment: zip([]) }), 'ERR_ZIP'],
    ['a second end after the first', () => zip([good, storage], { trailing: zip([]) }), 'ERR_ZIP'],
    ['another archive before it', () => Buffer.concat([zip([storage]), zip([good, storage])]), 'ERR_ZIP'],
    ['text before it', () => Buffer.concat([Buffer.from('#!/bin/sh\n'), zip([good, storage])]), 'ERR_TORCH_LEGACY'],
    ['zip64 sizes that are nowhere', () => zip([good, storage], { sizes: 0xffffffff }), 'ERR_ZIP'],
    ['an entry of 2^32 - 1 bytes', () => zip([good, { ...storage, lie: { size: 0xffffffff } }]), 'ERR_ZIP'],
    ['65,535 entries', () => zip([good, storage], { count: 65_535 }), 'ERR_ZIP'],
    ['a drive for a name', () => zip([good, storage, { name: 'C:\\x', data: sixFloats }]), 'ERR_ZIP'],
    ['bytes after the pickle', () => torchZip(Buffer.concat([good.data, Buffer.from('x')])), 'ERR_PICKLE_STACK'],
    ['no directory', () => zip([good, storage]).subarray(0, -30), 'ERR_ZIP'],
    ['two pickles', () => zip([good, storage, { ...good, name: 'other/data.pkl' }]), 'ERR_TORCH'],
    ['no pickle', () => zip([storage]), 'ERR_TORCH'],
    [
      'big-endian numbers',
      () => zip([good, storage, { name: 'archive/byteorder', data: Buffer.from('big') }]),
      'ERR_TORCH_UNSUPPORTED',
    ],
    ['no PyTorch file', () => Buffer.from('hello, world'), 'ERR_TORCH_LEGACY'],
    ['an empty file', () => Buffer.alloc(0), 'ERR_TORCH_LEGACY'],
  ])('%s', async (_, make, code) => {
    await expect(open(make())).rejects.toMatchObject({ code });
  });
});

test('the device that a tensor was saved from means nothing', async () => {
  expect(await readWeight({ location: 'cuda:99' })).toEqual([0, 1, 2, 3, 4, 5]);
});

describe('damaged legacy files are refused', () => {
  test('bytes after its end, storages that no tensor has, a storage of 2^40 elements', async () => {
    const whole = await fs.readFile(legacyFile);
    await expect(open(Buffer.concat([whole, Buffer.alloc(1)]))).rejects.toMatchObject({ code: 'ERR_TORCH_LEGACY' });
    // The list of storages: the last pickle; behind it each storage begins with its number of elements.
    const list = whole.lastIndexOf(Buffer.from([0x80, 2, 0x5d]));
    const end = whole.indexOf(Buffer.from('e.'), list) + 2;
    const huge = Buffer.from(whole);
    huge.writeBigInt64LE(2n ** 40n, end);
    await expect(open(huge)).rejects.toMatchObject({ code: 'ERR_TORCH_LEGACY' });
    const none = Buffer.concat([whole.subarray(0, list), pickle(0x80, 2, ']', '.'), whole.subarray(end)]);
    await expect(open(none)).rejects.toMatchObject({ code: 'ERR_TORCH_LEGACY' });
  });

  test('cut off anywhere', async () => {
    const whole = await fs.readFile(legacyFile);
    for (const share of [0.001, 0.02, 0.1, 0.5, 0.9, 0.99999]) {
      await expect(open(whole.subarray(0, Math.floor(whole.length * share)))).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_(TORCH_LEGACY|PICKLE_TRUNCATED)$/) as string,
      });
    }
  });

  test('another magic number, another protocol', async () => {
    const whole = await fs.readFile(legacyFile);
    const magic = Buffer.from(whole);
    magic[5]! ^= 1;
    await expect(open(magic)).rejects.toMatchObject({ code: 'ERR_TORCH_LEGACY' });
    const protocol = Buffer.from(whole);
    const at = protocol.indexOf(Buffer.from([0x4d, 0xe9, 0x03]));
    protocol[at + 1] = 0xea;
    await expect(open(protocol)).rejects.toMatchObject({ code: 'ERR_TORCH_LEGACY' });
  });
});
