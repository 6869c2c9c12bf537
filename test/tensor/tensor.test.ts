import vm from 'node:vm';
import { add, Device, devices, Generator, Parameter, Tensor, type DType, type TypedArray } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { badIntegers } from '../support/badNumbers';
import { codeOf } from '../support/errors';
import { cpu, tensor } from '../support/operators';

const device = resolveDevice('cpu');
/** Only ever held against an upper bound: the collector may free what an earlier test forgot at any time. */
const live = () => device.memory().liveBytes;

/** ES2024 methods that Node 20 has and the compiler's library does not name. */
type Resizable = ArrayBuffer & { resize(bytes: number): void };
const resizable = (bytes: number, most: number) =>
  new (ArrayBuffer as unknown as new (bytes: number, options: object) => Resizable)(bytes, { maxByteLength: most });

const detached = <T extends TypedArray | BigInt64Array>(array: T): T => {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
};

/** Every case also shows that a refusal leaves no memory behind. */
async function expectRefused(code: string, action: () => unknown, message?: string | RegExp): Promise<void> {
  const before = live();
  expect(await codeOf(action)).toBe(code);
  if (message !== undefined) await expect((async () => action())()).rejects.toThrow(message);
  expect(live()).toBeLessThanOrEqual(before);
}

describe('from', () => {
  test.each<[string, TypedArray | BigInt64Array, DType]>([
    ['Float32Array', Float32Array.of(1.5, -2), 'float32'],
    ['Float64Array', Float64Array.of(1 / 3, -2), 'float64'],
    ['Int32Array', Int32Array.of(-7, 2 ** 31 - 1), 'int32'],
    ['Uint8Array', Uint8Array.of(0, 255), 'uint8'],
    ['a Buffer', Buffer.from([3, 4]), 'uint8'],
    ['a misaligned slice of a Buffer', Buffer.from('0123456789').subarray(3, 8), 'uint8'],
    ['BigInt64Array', BigInt64Array.of(-5n, 7n), 'int32'],
    ['an array of another context', vm.runInNewContext('Float32Array.of(1, 2, 3)') as Float32Array, 'float32'],
    ['a subclass', new (class Mine extends Float32Array {})([1, 2]), 'float32'],
    ['an array without prototype', Object.setPrototypeOf(Float32Array.of(4, 5), null) as Float32Array, 'float32'],
    [
      'an array under a false name',
      Object.defineProperties(Int32Array.of(4, 5), { constructor: { value: Float32Array }, length: { value: 1 } }),
      'int32',
    ],
    ['shared memory', new Int32Array(new SharedArrayBuffer(8)).fill(7), 'int32'],
    ['resizable memory', new Int32Array(resizable(8, 64)).fill(7), 'int32'],
    ['nothing', new Float32Array(0), 'float32'],
  ])('takes %s', async (_, data, dtype) => {
    const made = Tensor.from(data, undefined, cpu);
    const length = Reflect.get(Object.getPrototypeOf(Uint8Array.prototype) as object, 'length', data) as number;
    expect([made.dtype, made.shape, made.size]).toEqual([dtype, [length], length]);
    expect([...(await made.data())]).toEqual(Array.from({ length }, (__, index) => Number(data[index])));
    made.dispose();
  });

  test('copies before it returns', async () => {
    const data = Float32Array.of(1, 2, 3);
    const made = Tensor.from(data, [3], cpu);
    data.fill(9);
    expect([...(await made.data())]).toEqual([1, 2, 3]);
  });

  test('takes nested arrays and numbers, and converts to the type asked for', async () => {
    const nested = Tensor.from([[1, 2.5], [3, 4]], undefined, cpu); // prettier-ignore
    expect([nested.shape, nested.dtype, ...(await nested.data())]).toEqual([[2, 2], 'float32', 1, 2.5, 3, 4]);
    const scalar = Tensor.from(7, undefined, { ...cpu, dtype: 'float64' });
    expect([scalar.shape, await scalar.item()]).toEqual([[], 7]);
    const narrowed = Tensor.from(Float64Array.of(1 / 3), [1, 1], { ...cpu, dtype: 'float32' });
    expect([narrowed.shape, await narrowed.item()]).toEqual([[1, 1], Math.fround(1 / 3)]);
    expect([...(await Tensor.from([1n, -2n], [2], { ...cpu, dtype: 'int32' }).data())]).toEqual([1, -2]);
    const foreign = vm.runInNewContext('[[1, 2], [3, 4]]') as number[][];
    expect(Tensor.from(foreign, vm.runInNewContext('[4]') as number[], cpu).shape).toEqual([4]);
  });

  test.each<[string, unknown, string]>([
    ['undefined', undefined, 'ERR_ARG_DATA'],
    ['null', null, 'ERR_ARG_DATA'],
    ['text', '123', 'ERR_ARG_DATA'],
    ['an object', {}, 'ERR_ARG_DATA'],
    ['an array-like', { 0: 1, length: 1 }, 'ERR_ARG_DATA'],
    ['a function', () => [1], 'ERR_ARG_DATA'],
    ['a symbol', Symbol('1'), 'ERR_ARG_DATA'],
    ['an ArrayBuffer', new ArrayBuffer(8), 'ERR_ARG_DATA'],
    ['a SharedArrayBuffer', new SharedArrayBuffer(8), 'ERR_ARG_DATA'],
    ['a DataView', new DataView(new ArrayBuffer(8)), 'ERR_ARG_DATA'],
    ['Int8Array', new Int8Array(2), 'ERR_ARG_DATA'],
    ['Uint16Array', new Uint16Array(2), 'ERR_ARG_DATA'],
    ['Uint8ClampedArray', new Uint8ClampedArray(2), 'ERR_ARG_DATA'],
    ['BigUint64Array', new BigUint64Array(2), 'ERR_ARG_DATA'],
    ['a proxy of a typed array', new Proxy(new Float32Array(2), {}), 'ERR_ARG_DATA'],
    ['an heir of a typed array', Object.create(new Float32Array(2)), 'ERR_ARG_DATA'],
    ['a tensor', tensor([1], [1]), 'ERR_ARG_DATA'],
    ['a hole', [1, , 3], 'ERR_ARG_DATA'],
    ['text among numbers', [1, '2'], 'ERR_ARG_DATA'],
    ['rows of unequal length', [[1, 2], [3]], 'ERR_ARG_SHAPE'],
    ['rows of unequal depth', [[1, 2], 3], 'ERR_ARG_SHAPE'],
    ['a number before a row', [3, [1, 2]], 'ERR_ARG_SHAPE'],
    ['nine axes', [[[[[[[[[1]]]]]]]]], 'ERR_ARG_DATA'],
    ['a detached Float32Array', detached(Float32Array.of(1)), 'ERR_ARG_DATA'],
    ['a detached BigInt64Array', detached(BigInt64Array.of(1n)), 'ERR_ARG_DATA'],
  ])('refuses %s', async (_, data, code) => {
    await expectRefused(code, () => Tensor.from(data as number, undefined, cpu), /^data/);
  });

  test('refuses an array that contains itself', async () => {
    const loop: unknown[] = [];
    loop.push(loop);
    await expectRefused('ERR_ARG_DATA', () => Tensor.from(loop as number[], undefined, cpu));
  });

  test('refuses arrays whose memory shrank away, also when they are to be converted', async () => {
    const memory = resizable(64, 64);
    const views = [new Float32Array(memory, 16, 4), new BigInt64Array(memory, 16, 4), new Float64Array(memory, 16, 4)];
    memory.resize(24);
    for (const data of views) {
      for (const dtype of [undefined, 'float32'] as const) {
        await expectRefused(
          'ERR_ARG_DATA',
          () => Tensor.from(data, undefined, { ...cpu, dtype }),
          'detached or shrank away',
        );
      }
    }
  });

  test.each<[unknown, DType]>([
    [0.5, 'int32'],
    [2 ** 31, 'int32'],
    [-(2 ** 31) - 1, 'int32'],
    [4294967297, 'int32'],
    [NaN, 'int32'],
    [Infinity, 'int32'],
    [2n ** 64n, 'int32'],
    [-1, 'uint8'],
    [256, 'uint8'],
  ])('refuses %p as %s, naming the element', async (value, dtype) => {
    const data = [1, value] as number[];
    await expectRefused('ERR_ARG_RANGE', () => Tensor.from(data, undefined, { ...cpu, dtype }), /^data\[1\]: got /);
  });

  test('an array that changes while it is read makes no tensor of another size than its data', async () => {
    let length = 2;
    const growing = new Proxy([1, 2, 3, 4], {
      get: (target, name) => (name === 'length' ? length++ : (Reflect.get(target, name) as unknown)),
    });
    await expectRefused('ERR_ARG_SHAPE', () => Tensor.from(growing, undefined, cpu));
    const mine = new RangeError('mine');
    const throwing = Object.defineProperty([1, 2], 1, {
      get: () => {
        throw mine;
      },
    });
    expect(() => Tensor.from(throwing, undefined, cpu)).toThrow(mine);
  });
});

describe('shapes', () => {
  test.each<[string, unknown]>([
    ['too few elements', [2, 2]],
    ['a product beyond 2^53', [2 ** 31, 2 ** 31, 2 ** 31]],
    ['the same times nothing', [0, 2 ** 31, 2 ** 31]],
    ['nine axes', new Array(9).fill(1)],
    ['a million axes', new Array(1_000_000).fill(1)],
    ['holes', new Array(2)],
    ['an array-like', { 0: 3, length: 1 }],
    ['a typed array', Int32Array.of(3)],
    ['a number', 3],
    ['text', '3'],
    ['null', null],
    ['nesting', [[3]]],
  ])('refuses %s', async (_, shape) => {
    const given = shape as number[];
    await expectRefused('ERR_ARG_SHAPE', () => Tensor.from([1, 2, 3], given, cpu));
    if (given?.length !== 2 || given[0] !== 2)
      await expectRefused('ERR_ARG_SHAPE', () => Tensor.zeros(given, cpu), /^shape/);
  });

  test('refuses every size that is no integer >= 0, by its axis', async () => {
    const one = tensor([1], [1]);
    for (const size of [...badIntegers, undefined, -1, -(2 ** 31)]) {
      await expectRefused('ERR_ARG_SHAPE', () => Tensor.zeros([1, size as number], cpu), /^shape\[1\]: got /);
      await expectRefused('ERR_ARG_SHAPE', () => one.alias([size as number]));
    }
  });

  test('are copied, frozen, and read once', async () => {
    const shape = Object.freeze([2, 3]);
    expect(Tensor.zeros(shape, cpu).shape).not.toBe(shape);
    expect(() => (Tensor.zeros([2], cpu).shape as number[]).push(5)).toThrow(TypeError);
    let reads = 0;
    const changing = Object.defineProperty([0, 3], 0, { get: () => 2 ** reads++ });
    const made = Tensor.zeros(changing, cpu);
    expect([made.shape, made.size, (await made.data()).length]).toEqual([[1, 3], 3, 3]);
    expect(Tensor.zeros(new Proxy([2, 2], {}), cpu).shape).toEqual([2, 2]);
    expect(Object.is(Tensor.zeros([-0], cpu).shape[0], 0)).toBe(true);
  });

  test('scalars, sizes of zero and eight axes are shapes', async () => {
    expect((await Tensor.full([], 3, cpu).data())[0]).toBe(3);
    expect((await Tensor.zeros([0, 5], cpu).data()).length).toBe(0);
    expect(Tensor.zeros(new Array<number>(8).fill(1), cpu).size).toBe(1);
  });

  test('more memory than there is names the bytes', async () => {
    await expectRefused('ERR_OUT_OF_MEMORY', () => Tensor.zeros([2 ** 45], cpu), `${2 ** 47} bytes`);
    await expectRefused('ERR_ARG_SHAPE', () => Tensor.zeros([2 ** 52], cpu), 'more than 2^53 bytes');
  });
});

describe('options', () => {
  test.each<[string, unknown, string, RegExp]>([
    ['null', null, 'ERR_ARG_TYPE', /^options: got null/],
    ['a number', 5, 'ERR_ARG_TYPE', /^options: got 5/],
    ['a misspelt one', { dtyp: 'int32' }, 'ERR_ARG_TYPE', /^options: 'dtyp' is none; did you mean dtype\?/],
    ['an unknown type', { dtype: 'bfloat8' }, 'ERR_ARG_TYPE', /^dtype: got 'bfloat8'/],
    ['a type that is no name', { dtype: 5 }, 'ERR_ARG_TYPE', /^dtype: got 5/],
    ['a type of Object.prototype', { dtype: 'constructor' }, 'ERR_ARG_TYPE', /^dtype/],
    ['requiresGrad as text', { requiresGrad: 'yes' }, 'ERR_ARG_TYPE', /^requiresGrad: got 'yes'/],
    [
      'requiresGrad of integers',
      { dtype: 'int32', requiresGrad: true },
      'ERR_ARG_TYPE',
      /^requiresGrad: got dtype int32/,
    ],
    ['an unknown device', { device: 'gpu' }, 'ERR_DEVICE', /^device: got 'gpu'/],
    ['a device index beyond', { device: 'cuda:999' }, 'ERR_DEVICE', /^device: 'cuda:999' cannot be had/],
    ['a device with tail', { device: 'cpu ' }, 'ERR_DEVICE', /^device: got 'cpu '/],
    ['a device that is a number', { device: 0 }, 'ERR_ARG_TYPE', /^device: got 0/],
    ['a device that is a symbol', { device: Symbol('cpu') }, 'ERR_ARG_TYPE', /^device: got a symbol/],
    ['a device that is an object', { device: { type: 'cpu' } }, 'ERR_ARG_TYPE', /^device: got an object/],
    ['an heir of a device', { device: Object.create(Device.prototype) }, 'ERR_ARG_HANDLE', /device/],
  ])('refuses %s', async (_, options, code, message) => {
    await expectRefused(code, () => Tensor.zeros([2], options as object), message);
    await expectRefused(code, () => Tensor.from([1, 2], [2], options as object), message);
  });

  test('full refuses values that the type cannot hold', async () => {
    for (const [dtype, value] of [
      ['int32', 2 ** 31],
      ['int32', 0.5],
      ['uint8', -1],
      ['uint8', NaN],
    ] as const) {
      // prettier-ignore
      await expectRefused('ERR_ARG_RANGE', () => Tensor.full([2], value, { ...cpu, dtype }));
    }
    for (const value of ['1', null, undefined, 1n, {}]) {
      await expectRefused('ERR_ARG_TYPE', () => Tensor.full([2], value as number, cpu));
      await expectRefused('ERR_ARG_TYPE', () => Tensor.full([0], value as number, cpu));
    }
  });

  test('devices are listed with a reason where there is none', () => {
    expect(devices().map(({ backend }) => backend)).toEqual(['cpu', 'cuda']);
    for (const { devices: list, reason } of devices()) expect(list.length > 0).toBe(reason === null);
  });
});

describe('overwrite', () => {
  test('takes the type or its bytes, in the order of the queue', async () => {
    const made = tensor([1, 2], [2], 'float32');
    const before = made.data();
    made.overwrite(Float32Array.of(5, 6));
    const middle = made.data();
    made.overwrite(new Uint8Array(Float32Array.of(7, 8).buffer));
    expect([...(await before), ...(await middle), ...(await made.data())]).toEqual([1, 2, 5, 6, 7, 8]);
    expect(made.version).toBe(2);
  });

  test.each<[string, unknown]>([
    ['another type of the same bytes', Float64Array.of(1)],
    ['integers of the same bytes', Int32Array.of(1, 2)],
    ['too few', Float32Array.of(1)],
    ['too many bytes', new Uint8Array(9)],
    ['a DataView', new DataView(new ArrayBuffer(8))],
    ['a detached array', detached(Float32Array.of(1, 2))],
    ['numbers', [1, 2]],
    ['null', null],
    ['a proxy', new Proxy(Float32Array.of(1, 2), {})],
  ])('refuses %s', async (_, data) => {
    const made = tensor([1, 2], [2], 'float32');
    await expectRefused('ERR_ARG_DATA', () => made.overwrite(data as Float32Array), /^data: got/);
    expect([[...(await made.data())], made.version]).toEqual([[1, 2], 0]);
  });
});

describe('what is no tensor', () => {
  const real = tensor([1, 2], [2]);
  const uses: [string, (given: Tensor) => unknown][] = [
    ['data', (given) => Tensor.prototype.data.call(given)],
    ['item', (given) => Tensor.prototype.item.call(given)],
    ['overwrite', (given) => Tensor.prototype.overwrite.call(given, Float64Array.of(1, 2))],
    ['backward', (given) => Tensor.prototype.backward.call(given)],
    ['detach', (given) => Tensor.prototype.alias.call(given)],
    ['dispose', (given) => Tensor.prototype.dispose.call(given)],
    ['device', (given) => Reflect.get(Tensor.prototype, 'device', given) as unknown],
    ['disposed', (given) => Reflect.get(Tensor.prototype, 'disposed', given) as unknown],
    ['buffer', (given) => Reflect.get(Tensor.prototype, 'buffer', given) as unknown],
  ];
  const impostors: [string, unknown][] = [
    ['undefined', undefined],
    ['null', null],
    ['a number', 5],
    ['an object', {}],
    ['an object with its fields', { ...real }],
    ['an heir', Object.create(real)],
    ['an object with its prototype', Object.create(Tensor.prototype)],
    ['an empty object whose prototype was swapped', Object.setPrototypeOf({}, Tensor.prototype)],
    ['a proxy', new Proxy(real, {})],
    ['a generator of random numbers', new Generator(1)],
    ['a structured clone', structuredClone({ ...real, shape: [2] })],
    ['a typed array', Float64Array.of(1, 2)],
  ];

  test.each(uses)('%s borrowed for it', async (_, use) => {
    for (const [, impostor] of impostors) await expectRefused('ERR_ARG_HANDLE', () => use(impostor as Tensor));
    expect([...(await real.data())]).toEqual([1, 2]);
  });

  test.each(impostors)('%s as an operand', async (_, impostor) => {
    const before = live();
    for (const operands of [
      [impostor, real],
      [real, impostor],
    ]) {
      // prettier-ignore
      expect(await codeOf(() => add(...(operands as [Tensor, Tensor])))).toMatch(/^ERR_ARG_(TYPE|HANDLE)$/);
    }
    if (impostor != null) {
      expect(await codeOf(() => add(real, real, { out: impostor as Tensor }))).toMatch(/^ERR_ARG_(TYPE|HANDLE)$/);
    }
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('a tensor whose prototype was taken away still answers to the methods', async () => {
    const orphan = tensor([3], [1]);
    Object.setPrototypeOf(orphan, {});
    expect([...(await Tensor.prototype.data.call(orphan))]).toEqual([3]);
    expect(await codeOf(() => add(orphan, orphan))).toBe('ERR_ARG_TYPE');
    Tensor.prototype.dispose.call(orphan);
  });

  test('constructors are not for callers', async () => {
    for (const Class of [Tensor, Parameter] as unknown as (new (...given: unknown[]) => unknown)[]) {
      for (const given of [[], [{}, [2], 'float32'], [null, [1e9], 'float32', 'x']]) {
        await expectRefused('ERR_ARG_HANDLE', () => new Class(...given), /Tensor\.from/);
      }
      expect(() => (Class as unknown as () => void)()).toThrow(/without 'new'/);
    }
  });

  test('subclasses and frozen tensors work', async () => {
    const frozen = Object.freeze(tensor([1, 2], [2])) as Tensor;
    expect([...(await add(frozen, frozen).data())]).toEqual([2, 4]);
    class Named extends Tensor {}
    const named = Object.setPrototypeOf(tensor([5], [1]), Named.prototype) as Named;
    expect([named instanceof Named, await named.item()]).toEqual([true, 5]);
  });

  test('code of another context uses tensors as any other', async () => {
    const context = vm.createContext({ Tensor, cpu });
    const made = vm.runInContext('Tensor.from(new Float32Array([1, 2, 3, 4]), [2, 2], cpu)', context) as Tensor;
    expect([made.shape, [...(await made.data())]]).toEqual([
      [2, 2],
      [1, 2, 3, 4],
    ]);
    const code = "try { Tensor.zeros([0.5]); } catch (error) { error.name + ' ' + error.code; }";
    expect(vm.runInContext(code, context)).toBe('XlformersError ERR_ARG_SHAPE');
  });
});

describe('life cycle', () => {
  test('nothing works after dispose, and dispose may be repeated', async () => {
    const before = live();
    const gone = tensor([1, 2], [2]);
    const empty = tensor([], [0]);
    for (const each of [gone, empty]) {
      each.dispose();
      each.dispose();
      each[Symbol.dispose]();
      expect([each.disposed, String(each)]).toEqual([true, expect.stringContaining('disposed')]);
      const uses = [
        () => each.data(),
        () => each.item(),
        () => each.overwrite(new Float64Array(each.size)),
        () => each.backward(),
        () => each.detach(),
        () => each.device,
        () => each.buffer,
        () => add(each, each),
      ];
      for (const use of uses) expect(await codeOf(use)).toBe('ERR_DISPOSED');
    }
    expect(() => gone.detach()).toThrow('tensor of shape [2]: it was disposed');
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('disposing a tensor leaves those alive that share its memory', async () => {
    const before = live();
    const first = tensor([1, 2, 3, 4], [4]);
    const held = live();
    const [second, third] = [first.detach(), first.alias([2, 2])];
    expect(live()).toBeLessThanOrEqual(held);
    first.dispose();
    second.dispose();
    second.dispose();
    expect([...(await third.data())]).toEqual([1, 2, 3, 4]);
    expect(live()).toBeLessThanOrEqual(held);
    third.dispose();
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('disposing operands and results while they are queued harms nothing', async () => {
    const before = live();
    const operand = Tensor.full([1 << 18], 1, cpu);
    let sum = add(operand, operand);
    for (let round = 0; round < 20; round += 1) {
      const next = add(sum, operand);
      sum.dispose();
      sum = next;
    }
    operand.dispose();
    const reading = sum.data();
    sum.dispose();
    expect(new Set(await reading)).toEqual(new Set([22]));
    expect(live()).toBeLessThanOrEqual(before);
  });
});
