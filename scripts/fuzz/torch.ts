import { promises as fs } from 'node:fs';
import path from 'node:path';
import { openTorchCheckpoint } from '../../lib/checkpoints/torchCheckpoint';
import { unpickle } from '../../lib/checkpoints/unpickle';
import { fixturePath } from '../../test/support/fixtures';
import type { TestRandom } from '../../test/support/random';
import {
  type TensorSketch,
  type ZipPart,
  int,
  pickle,
  sixFloats,
  stateDictPickle,
  text,
  torchZip,
  tuple,
  zip,
} from '../../test/support/torchFiles';
import { mutateBytes } from './bytes';
import type { Format } from './format';
import { readAll } from './weights';

/** Pieces of pickles: opcodes with their operands, harmless and not. */
const fragments = [
  ...['N', '(', ')', '}', ']', '0', '1', '2', 't', 'l', 'd', 's', 'u', 'a', 'e', 'b', 'R', 'o', 'Q', '.'].map((code) =>
    pickle(code),
  ),
  ...[0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x97, 0x98].map((code) => pickle(code)),
  ...[
    'os\nsystem',
    'collections\nOrderedDict',
    'torch\nFloatStorage',
    'torch._utils\n_rebuild_tensor_v2',
    'builtins\neval',
    'torch._utils\n_rebuild_qtensor',
  ].flatMap((name) => [
    pickle(`c${name}\n`),
    pickle('(', `i${name}\n`),
    pickle(text(name.split('\n')[0] as string), text(name.split('\n')[1] as string), 0x93),
  ]),
  ...[0, 1, 255].flatMap((index) => [pickle('q', index), pickle('h', index), pickle('K', index), pickle(0x82, index)]),
  ...[-1, 0, 2 ** 31 - 1].map(int),
  text('storage'),
  text('0'),
  text('weight'),
  text('cpu'),
  text(''),
  pickle('I01\n'),
  pickle('I99999999999999999999\n'),
  pickle('L5L\n'),
  pickle('F1e999\n'),
  pickle('g7\n'),
  pickle('p7\n'),
  pickle('Px\n'),
  pickle(0x8a, 8, Buffer.alloc(8, 0xff)),
  pickle(0x8b, Buffer.from([255, 255, 255, 127])),
  pickle(0x95, Buffer.alloc(8, 1)),
  pickle(0x80, 5),
  pickle(0x80, 6),
  pickle(0x8d, Buffer.alloc(8, 0xff)),
  pickle(0x96, Buffer.alloc(8)),
  tuple(int(2), int(3)),
  tuple(),
];

export function mutatePickle(random: TestRandom, bytes: Buffer): Buffer {
  if (random.uniform() < 0.4) return mutateBytes(random, bytes);
  let result = bytes;
  for (let edit = random.integer(1, 3); edit > 0; edit -= 1) {
    const at = random.integer(0, result.length);
    const removed = random.uniform() < 0.5 ? random.integer(0, 12) : 0;
    result = Buffer.concat([result.subarray(0, at), random.pick(fragments), result.subarray(at + removed)]);
  }
  return result;
}

async function check(file: Buffer, folder: string): Promise<void> {
  const place = path.join(folder, 'pytorch_model.bin');
  await fs.writeFile(place, file);
  await readAll(await openTorchCheckpoint(place), file.length);
}

const sketches: TensorSketch[] = [{}, { shape: [3, 2], strides: [1, 3] }, { offset: 2, shape: [2], strides: [2] }];
const dictionaries = sketches.map((sketch) => stateDictPickle(sketch));
const legacyDictionaries = sketches.map((sketch) => stateDictPickle({ ...sketch, legacy: true }));

export const torchArchive: Format = {
  corpus: async () => [
    ...dictionaries.map((data) => torchZip(data)),
    await fs.readFile(fixturePath('hf', 'xlnet-lm-plain', 'pytorch_model.bin')),
  ],
  mutate(random, file) {
    if (random.uniform() < 0.5) return mutateBytes(random, file);
    const parts: ZipPart[] = [
      { name: 'archive/data.pkl', data: mutatePickle(random, random.pick(dictionaries)) },
      { name: 'archive/data/0', data: sixFloats },
    ];
    if (random.uniform() < 0.3) parts.push(random.pick(parts));
    if (random.uniform() < 0.3) {
      const lies: ZipPart['lie'][] = [
        { method: 8 },
        { flags: 1 },
        { flags: 8 },
        { size: 2 ** 32 - 1 },
        { size: 7 },
        { localName: 'x' },
      ];
      const index = random.integer(0, parts.length - 1);
      parts[index] = { ...(parts[index] as ZipPart), lie: random.pick(lies) as object };
    }
    const archive = zip(parts, random.uniform() < 0.1 ? { count: random.pick([0, 1, 3, 65_535]) } : {});
    return random.uniform() < 0.2 ? mutateBytes(random, archive) : archive;
  },
  check,
};

/** The magic number, protocol and system information with which every file before 1.6 begins. */
const legacyHead = pickle(
  0x80,
  2,
  0x8a,
  10,
  Buffer.from('6cfc9c46f9206aa85019', 'hex'),
  '.',
  0x80,
  2,
  'M',
  Buffer.from([0xe9, 0x03]),
  '.',
  0x80,
  2,
  '}',
  text('little_endian'),
  0x88,
  's',
  '.',
);

export const torchLegacy: Format = {
  corpus: async () => {
    const size = Buffer.alloc(8);
    size.writeBigInt64LE(6n);
    const tail = pickle(0x80, 2, ']', text('0'), 'a', '.', size, sixFloats);
    return [
      ...legacyDictionaries.map((data) => Buffer.concat([legacyHead, data, tail])),
      await fs.readFile(fixturePath('hf', 'xlnet-classify', 'pytorch_model.bin')),
    ];
  },
  mutate: (random, file) =>
    random.uniform() < 0.5
      ? Buffer.concat([file.subarray(0, legacyHead.length), mutatePickle(random, file.subarray(legacyHead.length))])
      : mutateBytes(random, file),
  check,
};

export const rawPickle: Format = {
  corpus: () =>
    Promise.resolve([...dictionaries, pickle('(', int(1), text('a'), ']', 'N', 'a', '}', 'N', 'N', 's', 't', '.')]),
  mutate: mutatePickle,
  check: (file) => {
    unpickle(file, { file: 'fuzz.pkl' });
    return Promise.resolve();
  },
};
