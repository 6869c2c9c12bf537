import { native } from '../../lib/native';
import { codeOf, Workbench } from './support/workbench';

const bench = new Workbench();
afterAll(() => bench.releaseAll());

/** ES2024 methods that Node 20 has and the compiler's library does not name. */
type Resizable = ArrayBuffer & { resize(bytes: number): void };
const resizable = (bytes: number, most: number) =>
  new (ArrayBuffer as unknown as new (bytes: number, options: object) => Resizable)(bytes, { maxByteLength: most });

function detach(buffer: ArrayBuffer): void {
  structuredClone(buffer, { transfer: [buffer] });
}

async function roundTrip(data: NodeJS.TypedArray): Promise<Uint8Array> {
  const buffer = bench.bytes(data.byteLength);
  native.upload(buffer, data);
  const target = new ArrayBuffer(data.byteLength);
  await native.read(buffer, target);
  return new Uint8Array(target);
}

describe('upload', () => {
  test.each([
    ['Float32Array', Float32Array.of(1, 2, 3)],
    ['Float64Array', Float64Array.of(1, 2)],
    ['Int8Array', Int8Array.of(-1, 2, 3)],
    ['Uint8ClampedArray', Uint8ClampedArray.of(1, 2, 3)],
    ['BigInt64Array', BigInt64Array.of(1n, -2n)],
    ['a misaligned slice of a Buffer', Buffer.from('0123456789').subarray(3, 8)],
    ['a view of shared memory', new Uint8Array(new SharedArrayBuffer(8)).fill(7)],
    ['a view of resizable memory', new Uint8Array(resizable(8, 64)).fill(9)],
    ['nothing', new Float32Array(0)],
  ])('takes the bytes of %s', async (_, data: NodeJS.TypedArray) => {
    expect([...(await roundTrip(data))]).toEqual([...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
  });

  test('copies before it returns', async () => {
    const data = Float32Array.of(1, 2, 3);
    const buffer = bench.bytes(12);
    native.upload(buffer, data);
    data.fill(9);
    expect([...(await bench.read(buffer, 3))]).toEqual([1, 2, 3]);
  });

  test('refuses any other number of bytes', () => {
    const buffer = bench.bytes(12);
    for (const length of [0, 2, 4]) expect(codeOf(() => native.upload(buffer, new Float32Array(length)))).toBe('ERR_ARG_DATA');
    expect(() => native.upload(buffer, new Float32Array(4))).toThrow("upload: argument 'data': got 16 bytes, expected 12");
  });

  test('refuses what is no typed array', () => {
    const buffer = bench.bytes(4);
    const given = [
      null,
      undefined,
      {},
      [1, 2, 3, 4],
      '1234',
      4,
      new ArrayBuffer(4),
      new SharedArrayBuffer(4),
      new DataView(new ArrayBuffer(4)),
      new Proxy(new Uint8Array(4), {}),
      Object.create(new Uint8Array(4)),
    ];
    for (const data of given) expect(codeOf(() => native.upload(buffer, data as Uint8Array))).toBe('ERR_ARG_DATA');
  });

  test('refuses detached arrays, also for an empty buffer', () => {
    const data = new Uint8Array(4);
    detach(data.buffer);
    expect(codeOf(() => native.upload(bench.bytes(4), data))).toBe('ERR_ARG_DATA');
    expect(codeOf(() => native.upload(bench.bytes(0), data))).toBe('ERR_ARG_DATA');
  });

  test('refuses arrays whose memory shrank away', () => {
    const memory = resizable(64, 64);
    const fixed = new Uint8Array(memory, 16, 32);
    const tracking = new Uint8Array(memory);
    const buffer = bench.bytes(32);
    native.upload(buffer, fixed);
    memory.resize(32);
    expect(codeOf(() => native.upload(buffer, fixed))).toBe('ERR_ARG_DATA');
    expect(codeOf(() => native.upload(buffer, tracking))).toBeNull();
    memory.resize(8);
    expect(codeOf(() => native.upload(buffer, tracking))).toBe('ERR_ARG_DATA');
    memory.resize(64);
    expect(codeOf(() => native.upload(buffer, fixed))).toBeNull();
  });
});

describe('read', () => {
  test('refuses targets of another size or kind at the call', () => {
    const buffer = bench.bytes(8);
    const detached = new ArrayBuffer(8);
    detach(detached);
    for (const target of [
      new ArrayBuffer(4),
      new ArrayBuffer(16),
      new SharedArrayBuffer(8),
      new Uint8Array(8),
      detached,
      {},
      null,
      8,
      new Proxy(new ArrayBuffer(8), {}),
    ]) {
      expect(codeOf(() => native.read(buffer, target as ArrayBuffer))).toBe('ERR_ARG_DATA');
    }
  });

  test('rejects when the target was detached, transferred or shrunk meanwhile', async () => {
    const buffer = bench.floats(8);
    const target = new ArrayBuffer(32);
    const shrinking = resizable(32, 32);
    const reads = [native.read(buffer, target), native.read(buffer, shrinking)];
    detach(target);
    shrinking.resize(4);
    for (const read of reads) await expect(read).rejects.toMatchObject({ code: 'ERR_ARG_DATA' });
  });

  test('of large buffers copies in portions and does not hold up the event loop', async () => {
    const count = (5 << 20) / 4 + 3;
    const buffer = bench.bytes(4 * count);
    native.upload(buffer, Float32Array.from({ length: count }, (_, index) => index % 1021));
    const target = new ArrayBuffer(4 * count);
    let turns = 0;
    let done = false;
    const watch = () => {
      turns += 1;
      if (!done) setImmediate(watch);
    };
    setImmediate(watch);
    await native.read(buffer, target);
    done = true;
    const values = new Float32Array(target);
    expect(values.findIndex((value, index) => value !== index % 1021)).toBe(-1);
    expect(turns).toBeGreaterThanOrEqual(5);
  });

  test('rejects a large read whose target is detached between portions', async () => {
    const bytes = 4 << 20;
    const buffer = bench.bytes(bytes);
    native.fill({ dtype: 'u8', count: bytes, value: 1, out: buffer });
    const target = new ArrayBuffer(bytes);
    const read = native.read(buffer, target);
    const watch = () => {
      if (target.byteLength === 0) return;
      if (new Uint8Array(target)[0] === 1) detach(target);
      else setImmediate(watch);
    };
    setImmediate(watch);
    await expect(read).rejects.toMatchObject({ code: 'ERR_ARG_DATA' });
  });

  test('sees what was enqueued before, and not what came after', async () => {
    const buffer = bench.bytes(4);
    const reads = [1, 2, 3].map((value) => {
      native.fill({ dtype: 'f32', count: 1, value, out: buffer });
      return bench.read(buffer, 1);
    });
    expect((await Promise.all(reads)).map(([value]) => value)).toEqual([1, 2, 3]);
  });

  test('survives the release of its buffer', async () => {
    const buffer = native.allocate(bench.device, 4);
    native.upload(buffer, Float32Array.of(6));
    const read = bench.read(buffer, 1);
    native.release(buffer);
    expect([...(await read)]).toEqual([6]);
  });
});
