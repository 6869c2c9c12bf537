import type { TestRandom } from '../../test/support/random';

/** Sizes at which readers go wrong. */
const interesting = [
  0n,
  1n,
  2n,
  7n,
  8n,
  127n,
  128n,
  255n,
  256n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** Changes one to four places of a file, or cuts it off. */
export function mutateBytes(random: TestRandom, file: Buffer): Buffer {
  let bytes: Buffer = Buffer.from(file);
  for (let edit = random.integer(1, 4); edit > 0; edit -= 1) bytes = mutateOnce(random, bytes);
  return bytes;
}

function mutateOnce(random: TestRandom, bytes: Buffer): Buffer {
  if (bytes.length === 0) return Buffer.from([random.integer(0, 255)]);
  const at = place(random, bytes.length);
  const length = Math.min(bytes.length - at, 2 ** random.integer(0, 8));
  const [before, part, after] = [bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at + length)];
  switch (random.integer(0, 7)) {
    case 0:
      bytes[at] = (bytes[at] as number) ^ (1 << random.integer(0, 7));
      return bytes;
    case 1:
      bytes[at] = random.integer(0, 255);
      return bytes;
    case 2:
      return overwriteInteger(random, bytes, at);
    case 3:
      return before;
    case 4:
      return Buffer.concat([before, after]);
    case 5:
      return Buffer.concat([before, part, part, after]);
    case 6:
      return Buffer.concat([before, Buffer.from(Array.from({ length }, () => random.integer(0, 255))), after]);
    default: {
      const from = place(random, bytes.length);
      return Buffer.concat([before, bytes.subarray(from, from + length), after]);
    }
  }
}

/** Headers are at the ends of files. */
function place(random: TestRandom, length: number): number {
  const share = random.uniform() ** 2;
  return Math.min(length - 1, Math.floor((random.uniform() < 0.5 ? share : 1 - share) * length));
}

function overwriteInteger(random: TestRandom, bytes: Buffer, at: number): Buffer {
  const width = random.pick([1, 2, 4, 8]);
  const value = Buffer.alloc(8);
  value.writeBigUInt64LE(random.pick(interesting));
  value.copy(bytes, at, 0, Math.min(width, bytes.length - at));
  return bytes;
}
