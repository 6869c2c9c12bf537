/** Pickles and zip archives, byte by byte: what PyTorch writes, and what nobody should. */

/** Opcodes and operands: strings are ASCII, numbers are bytes. */
export function pickle(...parts: (string | number | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.map((part) =>
      typeof part === 'number' ? Buffer.from([part]) : Buffer.isBuffer(part) ? part : Buffer.from(part, 'latin1'),
    ),
  );
}

/** BINUNICODE */
export function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([Buffer.from('X'), length, bytes]);
}

/** BININT */
export function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.write('J', 'latin1');
  bytes.writeInt32LE(value, 1);
  return bytes;
}

export const tuple = (...items: Buffer[]): Buffer => pickle('(', ...items, 't');

export interface TensorSketch {
  /** The device that it was saved from. */
  location?: string;
  requiresGrad?: Buffer;
  hooks?: Buffer;
  rebuild?: string;
  /** The storage is described as before PyTorch 1.6, with the part of another that it is: none. */
  legacy?: boolean;
  key?: Buffer;
  type?: string;
  size?: number;
  offset?: number;
  shape?: number[];
  strides?: number[];
}

/** A call of torch._utils._rebuild_tensor_v2. */
export function tensorPickle(sketch: TensorSketch = {}): Buffer {
  const { key = text('0'), type = 'FloatStorage', size = 6, offset = 0, shape = [2, 3], strides = [3, 1] } = sketch;
  const { location = 'cpu', requiresGrad = pickle(0x89), rebuild = 'torch._utils\n_rebuild_tensor_v2' } = sketch;
  const hooks = sketch.hooks ?? pickle('ccollections\nOrderedDict\n', ')', 'R');
  const storage = pickle(
    tuple(
      text('storage'),
      pickle(`ctorch\n${type}\n`),
      key,
      text(location),
      int(size),
      pickle(...(sketch.legacy ? ['N'] : [])),
    ),
    'Q',
  );
  return pickle(
    `c${rebuild}\n`,
    tuple(storage, int(offset), tuple(...shape.map(int)), tuple(...strides.map(int)), requiresGrad, hooks),
    'R',
  );
}

/** A state dict with one tensor 'weight'. */
export function stateDictPickle(sketch: TensorSketch = {}): Buffer {
  return pickle(0x80, 2, '}', text('weight'), tensorPickle(sketch), 's', '.');
}

export interface ZipPart {
  name: string;
  data: Buffer;
  /** What the headers say instead of the truth. */
  lie?: { method?: number; size?: number; localName?: string; flags?: number };
}

/** An archive of stored entries. */
export function zip(
  parts: readonly ZipPart[],
  more: { trailing?: Buffer; count?: number; comment?: Buffer; sizes?: number } = {},
): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, data, lie = {} } of parts) {
    const localName = Buffer.from(lie.localName ?? name);
    const local = Buffer.alloc(30);
    local.write('PK\x03\x04', 'latin1');
    local.writeUInt16LE(lie.flags ?? 0, 6);
    local.writeUInt16LE(lie.method ?? 0, 8);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(data.length, 22);
    local.writeUInt16LE(localName.length, 26);
    bodies.push(local, localName, data);
    const central = Buffer.alloc(46);
    central.write('PK\x01\x02', 'latin1');
    central.writeUInt16LE(lie.flags ?? 0, 8);
    central.writeUInt16LE(lie.method ?? 0, 10);
    central.writeUInt32LE(lie.size ?? data.length, 20);
    central.writeUInt32LE(lie.size ?? data.length, 24);
    central.writeUInt16LE(Buffer.byteLength(name), 28);
    central.writeUInt32LE(offset, 42);
    directory.push(central, Buffer.from(name));
    offset += 30 + localName.length + data.length;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(more.count ?? parts.length, 8);
  end.writeUInt16LE(more.count ?? parts.length, 10);
  end.writeUInt32LE(more.sizes ?? size, 12);
  end.writeUInt32LE(more.sizes ?? offset, 16);
  const comment = more.comment ?? Buffer.alloc(0);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...bodies, ...directory, end, comment, more.trailing ?? Buffer.alloc(0)]);
}

/** Six float32 numbers 0 ... 5. */
export const sixFloats = Buffer.from(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);

/** A whole file as torch.save writes it. */
export function torchZip(data: Buffer, storages: ZipPart[] = [{ name: 'archive/data/0', data: sixFloats }]): Buffer {
  return zip([{ name: 'archive/data.pkl', data }, ...storages, { name: 'archive/version', data: Buffer.from('3\n') }]);
}
