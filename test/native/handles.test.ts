import vm from 'node:vm';
import { native, type NativeBuffer } from '../../lib/native';
import { operatorCalls } from './support/operatorCalls';
import { call, codeOf, type OperatorName, Workbench } from './support/workbench';
import { leafPaths, valueAt, withValue } from './support/paths';
import { operatorNames } from '../../lib/nativeOperators';

const bench = new Workbench();
const buffer = bench.bytes(32);
afterAll(() => bench.releaseAll());

const impostors: [string, unknown][] = [
  ['undefined', undefined],
  ['null', null],
  ['a number', 7],
  ['a string', 'buffer'],
  ['an object', {}],
  ['a copy', { ...buffer }],
  ['an heir', Object.create(buffer)],
  ['an object with its prototype', Object.create(Object.getPrototypeOf(buffer) as object)],
  ['a proxy', new Proxy(buffer, {})],
  ['a typed array', new Float32Array(8)],
  ['an ArrayBuffer', new ArrayBuffer(32)],
  ['a function', () => buffer],
  ['a device', bench.device],
  ['an object of another context', vm.runInNewContext('({})')],
];

describe.each(impostors)('%s is no buffer', (_, impostor) => {
  const given = impostor as NativeBuffer;

  test('for the functions that take one', () => {
    expect(codeOf(() => native.release(given))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.view(given, 0, 0))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.upload(given, new Uint8Array(32)))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.read(given, new ArrayBuffer(32)))).toBe('ERR_ARG_HANDLE');
  });

  test('for any operator', () => {
    for (const name of operatorNames) {
      const options = operatorCalls[name](bench);
      // Forward operators do not look at the gradient fields of the blocks that they share with their gradients.
      const read = (path: readonly unknown[]) => name.endsWith('Gradient') || !String(path.at(-1)).endsWith('Gradient');
      for (const path of leafPaths(options).filter((each) => read(each) && typeof valueAt(options, each) === 'object')) {
        const code = codeOf(() => call(name, withValue(options, path, impostor)));
        // A gradient whose operand is absent is refused for that, whatever it is.
        const mayBeAbsent = impostor === null || impostor === undefined || String(path.at(-1)).endsWith('Gradient');
        expect([name, path, mayBeAbsent ? (code ?? 'ERR_ARG_HANDLE') : code]).toEqual([
          name,
          path,
          expect.stringMatching(mayBeAbsent ? /ERR_ARG_(HANDLE|SHAPE)/ : /ERR_ARG_HANDLE/),
        ]);
      }
    }
    bench.releaseAll();
  });
});

test('a buffer is no device', () => {
  const owner = native.allocate(bench.device, 8);
  for (const given of [owner, {}, null, 'cpu', Object.create(bench.device), new Proxy(bench.device, {})]) {
    const device = given as unknown as typeof bench.device;
    expect(codeOf(() => native.allocate(device, 8))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.memory(device))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.resetPeak(device))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.releaseCached(device))).toBe('ERR_ARG_HANDLE');
    expect(codeOf(() => native.fence(device))).toBe('ERR_ARG_HANDLE');
  }
  native.release(owner);
});

test('handles have nothing to see, and are frozen or extended without harm', () => {
  const handle = native.allocate(bench.device, 4);
  expect(Reflect.ownKeys(handle)).toEqual([]);
  Object.freeze(Object.assign(handle, { note: 1 }));
  Object.setPrototypeOf(bench.device, { other: 1 });
  native.upload(handle, Float32Array.of(1));
  native.release(handle);
});

test('buffers of two devices do not mix', () => {
  const other = new Workbench();
  const options = operatorCalls.add(bench);
  expect(codeOf(() => call('add', { ...options, y: other.floats(5) }))).toBe('ERR_ARG_HANDLE');
  expect(codeOf(() => call('add', { ...options, out: other.floats(5) }))).toBe('ERR_ARG_HANDLE');
  other.releaseAll();
});

describe('release', () => {
  test('ends every use, and is harmless when repeated', () => {
    const handle = native.allocate(bench.device, 32);
    native.release(handle);
    native.release(handle);
    expect(codeOf(() => native.view(handle, 0, 4))).toBe('ERR_DISPOSED');
    expect(codeOf(() => native.upload(handle, new Uint8Array(32)))).toBe('ERR_DISPOSED');
    expect(codeOf(() => native.read(handle, new ArrayBuffer(32)))).toBe('ERR_DISPOSED');
    for (const name of ['fill', 'activation', 'meanNonzero'] satisfies OperatorName[]) {
      const options = operatorCalls[name](bench);
      expect(codeOf(() => call(name, { ...options, out: handle }))).toBe('ERR_DISPOSED');
    }
  });

  test('of a buffer leaves its views alive, and the other way round', async () => {
    const whole = bench.floats(8);
    const part = native.view(whole, 8, 16);
    const inner = native.view(part, 4, 4);
    native.release(whole);
    native.release(part);
    expect([...(await bench.read(inner, 1))]).toEqual([Math.fround(1 / 4)]);
    native.release(inner);
  });

  test('inside a getter of the same call does not pull the memory away', async () => {
    const device = native.openDevice('cpu', 0);
    const x = native.allocate(device, 40);
    const y = native.allocate(device, 40);
    native.fill({ dtype: 'f32', count: 10, value: 2, out: x });
    native.add(
      Object.defineProperty({ dtype: 'f32' as const, count: 10, alpha: 1, beta: 0, x, y: null, out: y }, 'out', {
        get: () => {
          native.release(x);
          native.releaseCached(device);
          return y;
        },
      }),
    );
    const target = new ArrayBuffer(40);
    await native.read(y, target);
    expect([...new Float32Array(target)]).toEqual(new Array(10).fill(2));
  });

  test('takes effect in the order of the queue', async () => {
    const device = native.openDevice('cpu', 0);
    const kept = native.allocate(device, 4096);
    const passing = native.allocate(device, 4096);
    native.fill({ dtype: 'f32', count: 1024, value: 5, out: passing });
    native.add({ dtype: 'f32', count: 1024, alpha: 1, beta: 0, x: passing, y: null, out: kept });
    native.release(passing);
    const reused = native.allocate(device, 4096);
    native.fill({ dtype: 'f32', count: 1024, value: 9, out: reused });
    const target = new ArrayBuffer(4096);
    await native.read(kept, target);
    expect(new Set(new Float32Array(target))).toEqual(new Set([5]));
    expect(native.memory(device)).toMatchObject({ liveBytes: 8192, cachedBytes: 0 });
  });
});

describe('views', () => {
  test('stay inside their buffer', () => {
    const whole = bench.bytes(32);
    for (const [offset, length] of [
      [33, 0],
      [0, 33],
      [16, 17],
      [-1, 4],
      [0.5, 4],
      [2 ** 32, 4],
      [0, 2 ** 32 + 4],
      [NaN, 4],
    ] as const) {
      expect(codeOf(() => native.view(whole, offset, length))).toBe('ERR_ARG_RANGE');
    }
    expect(codeOf(() => native.view(whole, '0' as unknown as number, 4))).toBe('ERR_ARG_TYPE');
    native.release(native.view(whole, 32, 0));
  });

  test('must be aligned to the elements an operator reads', () => {
    const view = native.view(bench.bytes(32), 2, 24);
    expect(codeOf(() => call('fill', { dtype: 'f32', count: 2, value: 0, out: view }))).toBe('ERR_ARG_DATA');
    expect(codeOf(() => call('fill', { dtype: 'u8', count: 24, value: 0, out: view }))).toBeNull();
    native.release(view);
  });
});

test('functions work without their object', () => {
  const { allocate, release } = native;
  release(allocate.call({} as never, bench.device, 16));
});
