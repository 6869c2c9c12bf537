import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { writeSafetensors } from '../../lib';
import { dtypeBytes } from '../../lib/checkpoints/safetensorsHeader';
import { type WeightsFile, openFile, openWeights } from '../../lib/checkpoints/weights';
import { fixturePath } from '../../test/support/fixtures';
import { mutateBytes } from './bytes';
import { type Format, requireBounds } from './format';
import { mutateJson } from './json';

/** Reads every tensor: as many bytes as type and shape say, and no more than the file has. */
export async function readAll(weights: WeightsFile, fileSize: number): Promise<void> {
  try {
    for (const [name, { dtype, shape }] of weights.tensors) {
      const bytes = shape.reduce((product, size) => product * size, dtypeBytes[dtype]);
      requireBounds(
        Number.isSafeInteger(bytes) && bytes <= fileSize,
        `tensor of ${bytes} bytes in a file of ${fileSize}`,
      );
      requireBounds((await weights.read(name)).length === bytes, 'length of what was read');
    }
  } finally {
    await weights.close();
  }
}

const tiny = [
  { name: 'a', dtype: 'F32' as const, shape: [2, 3], data: new Uint8Array(24) },
  { name: 'b.weight', dtype: 'F64' as const, shape: [], data: new Uint8Array(8) },
  { name: 'c', dtype: 'U8' as const, shape: [0, 5], data: new Uint8Array(0) },
];

export const safetensors: Format = {
  corpus: async () => [
    await fs.readFile(fixturePath('hf', 'txl-lm-div2', 'model.safetensors')),
    build('{"__metadata__":{"format":"pt"},"a":{"dtype":"I16","shape":[2,2],"data_offsets":[0,8]}}', Buffer.alloc(8)),
    build(
      '{"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}',
      Buffer.alloc(16),
    ),
  ],
  mutate(random, file) {
    if (random.uniform() < 0.3) return mutateBytes(random, file);
    const end = 8 + Number(file.readBigUInt64LE(0));
    const json = mutateJson(random, file.toString('utf8', 8, end));
    return build(json, random.uniform() < 0.9 ? file.subarray(end) : mutateBytes(random, file.subarray(end)));
  },
  check: async (file, folder) => {
    const place = path.join(folder, 'model.safetensors');
    await fs.writeFile(place, file);
    await readAll(await openFile(place), file.length);
  },
};

function build(header: string, data: Buffer): Buffer {
  const json = Buffer.from(header);
  const first = Buffer.alloc(8);
  first.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([first, json, data]);
}

/** Cases share a folder. */
async function writeOnce(file: string, entries: typeof tiny): Promise<void> {
  if (!existsSync(file)) await writeSafetensors(file, entries);
}

export const shardIndex: Format = {
  corpus: () =>
    Promise.resolve([
      Buffer.from(
        JSON.stringify({
          metadata: { total_size: 32 },
          weight_map: { a: 'm-1.safetensors', 'b.weight': 'm-2.safetensors', c: 'm-2.safetensors' },
        }),
      ),
    ]),
  mutate: (random, file) =>
    random.uniform() < 0.2 ? mutateBytes(random, file) : Buffer.from(mutateJson(random, file.toString())),
  check: async (file, folder) => {
    await writeOnce(path.join(folder, 'm-1.safetensors'), tiny.slice(0, 1));
    await writeOnce(path.join(folder, 'm-2.safetensors'), tiny.slice(1));
    await fs.writeFile(path.join(folder, 'model.safetensors.index.json'), file);
    await readAll(await openWeights(folder), 1000);
  },
};
