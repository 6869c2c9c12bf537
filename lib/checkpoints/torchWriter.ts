/** PyTorch's zip format, as far as state dicts need it: a pickle of names, shapes and places, and one stored entry for each tensor. */
import type { promises as fs } from 'node:fs';
import { crc32 } from 'node:zlib';
import { XlformersError } from '../errors';
import { writeAtomically } from './atomicFile';
import { type SafetensorsDType, dtypeBytes } from './safetensorsHeader';
import type { WeightInfo } from './weights';

const storageTypes: Record<SafetensorsDType, string> = {
  F64: 'DoubleStorage',
  F32: 'FloatStorage',
  F16: 'HalfStorage',
  BF16: 'BFloat16Storage',
  I64: 'LongStorage',
  I32: 'IntStorage',
  I16: 'ShortStorage',
  I8: 'CharStorage',
  U8: 'ByteStorage',
  BOOL: 'BoolStorage',
};

/** Sizes and offsets of a plain zip archive are 32-bit. */
const maxBytes = 2 ** 32 - 2 ** 20;

/**
 * Writes a state dict that `torch.load` opens, also with weights_only. One tensor is in memory at a time.
 * @throws XlformersError ERR_TORCH_UNSUPPORTED beyond 4 GiB, ERR_FILE_WRITE
 */
export async function writeTorchCheckpoint(
  file: string,
  tensors: ReadonlyMap<string, WeightInfo>,
  read: (name: string) => Promise<Uint8Array>,
): Promise<void> {
  const total = [...tensors.values()].reduce((sum, info) => sum + byteCount(info), 0);
  if (total > maxBytes) {
    throw new XlformersError(
      'ERR_TORCH_UNSUPPORTED',
      `${file}: ${total} bytes are more than a plain archive holds (4 GiB); write safetensors`,
    );
  }
  await writeAtomically(file, async (handle) => {
    const archive = new ZipWriter(handle);
    await archive.add('archive/data.pkl', stateDictPickle(tensors));
    await archive.add('archive/byteorder', Buffer.from('little'));
    let key = 0;
    for (const name of tensors.keys()) await archive.add(`archive/data/${key++}`, await read(name));
    await archive.add('archive/version', Buffer.from('3\n'));
    await archive.end();
  });
}

function elementCount({ shape }: WeightInfo): number {
  return shape.reduce((product, size) => product * size, 1);
}

function byteCount(info: WeightInfo): number {
  return elementCount(info) * dtypeBytes[info.dtype];
}

/** OrderedDict of calls of torch._utils._rebuild_tensor_v2, protocol 2. */
function stateDictPickle(tensors: ReadonlyMap<string, WeightInfo>): Buffer {
  const ascii = (text: string) => Buffer.from(text, 'latin1');
  const text = (value: string) => {
    const bytes = Buffer.from(value, 'utf8');
    const head = Buffer.alloc(5);
    head.write('X', 'latin1');
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  };
  // LONG1 of 8 bytes: sizes may not fit 32 bits.
  const integer = (value: number) => {
    const bytes = Buffer.alloc(10);
    bytes.writeUInt16LE(0x088a, 0);
    bytes.writeBigInt64LE(BigInt(value), 2);
    return bytes;
  };
  const tuple = (values: readonly number[]) => Buffer.concat([ascii('('), ...values.map(integer), ascii('t')]);
  const dictionary = ascii('ccollections\nOrderedDict\n)R');
  const parts: Buffer[] = [Buffer.from([0x80, 2]), dictionary, ascii('(')];
  let key = 0;
  for (const [name, info] of tensors) {
    const strides = info.shape.map((_, axis) =>
      info.shape.slice(axis + 1).reduce((product, size) => product * size, 1),
    );
    parts.push(
      text(name),
      ascii('ctorch._utils\n_rebuild_tensor_v2\n(('),
      text('storage'),
      ascii(`ctorch\n${storageTypes[info.dtype]}\n`),
      text(String(key++)),
      text('cpu'),
      integer(elementCount(info)),
      ascii('tQ'),
      integer(0),
      tuple(info.shape),
      tuple(strides),
      Buffer.from([0x89]),
      dictionary,
      ascii('tR'),
    );
  }
  return Buffer.concat([...parts, ascii('u.')]);
}

/** Stored entries one after the other, then the directory. */
class ZipWriter {
  private readonly directory: Buffer[] = [];
  private offset = 0;

  constructor(private readonly handle: fs.FileHandle) {}

  async add(name: string, data: Uint8Array): Promise<void> {
    const nameBytes = Buffer.from(name);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0); // version needed
    fields.writeUInt32LE(crc32(data), 10);
    fields.writeUInt32LE(data.byteLength, 14);
    fields.writeUInt32LE(data.byteLength, 18);
    fields.writeUInt16LE(nameBytes.length, 22);
    // PyTorch maps storages into memory where they start at multiples of 64 bytes.
    const padding = (64 - ((this.offset + 30 + nameBytes.length + 4) % 64)) % 64;
    const extra = Buffer.alloc(4 + padding);
    extra.write('FB', 'latin1');
    extra.writeUInt16LE(padding, 2);
    const local = Buffer.from(fields);
    local.writeUInt16LE(extra.length, 24);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(this.offset, 10);
    this.directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), fields, tail, nameBytes);
    for (const part of [Buffer.from('PK\x03\x04', 'latin1'), local, nameBytes, extra, data]) await this.write(part);
  }

  async end(): Promise<void> {
    const start = this.offset;
    const entries = this.directory.length / 4;
    for (const part of this.directory) await this.write(part);
    const end = Buffer.alloc(22);
    end.write('PK\x05\x06', 'latin1');
    end.writeUInt16LE(entries, 8);
    end.writeUInt16LE(entries, 10);
    end.writeUInt32LE(this.offset - start, 12);
    end.writeUInt32LE(start, 16);
    await this.write(end);
  }

  private async write(data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.byteLength;) {
      const { bytesWritten } = await this.handle.write(data, done, Math.min(2 ** 30, data.byteLength - done));
      done += bytesWritten;
    }
    this.offset += data.byteLength;
  }
}
