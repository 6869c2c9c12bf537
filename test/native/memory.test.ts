import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import { native, type NativeDevice } from '../../lib/native';
import { codeOf } from './support/workbench';

v8.setFlagsFromString('--expose-gc');
const collectGarbage = vm.runInNewContext('gc') as () => void;

describe('allocate', () => {
  const device = native.openDevice('cpu', 0);

  test.each([NaN, Infinity, -Infinity, -1, 0.5, 1e300, 2 ** 53 + 2, 2 ** 64])('refuses %p bytes', (bytes) => {
    expect(codeOf(() => native.allocate(device, bytes))).toBe('ERR_ARG_RANGE');
  });

  test.each(['5', 5n, null, undefined, {}, [], Symbol('5'), { valueOf: () => 5 }] as unknown[])('refuses %p', (bytes) => {
    expect(codeOf(() => native.allocate(device, bytes as number))).toBe('ERR_ARG_TYPE');
  });

  test.each([2 ** 40, 2 ** 47, 2 ** 52, 2 ** 53])('%p bytes: out of memory, and the process lives', (bytes) => {
    expect(codeOf(() => native.allocate(device, bytes))).toBe('ERR_OUT_OF_MEMORY');
    native.release(native.allocate(device, 64));
  });

  test('nothing is a size too', () => {
    const nothing = native.allocate(device, 0);
    native.fill({ dtype: 'f32', count: 0, value: 1, out: nothing });
    native.upload(nothing, new Float32Array(0));
    native.release(nothing);
  });
});

describe('memory', () => {
  test('counts live, cached and peak bytes', () => {
    const device = native.openDevice('cpu', 0);
    const first = native.allocate(device, 1 << 20);
    const second = native.allocate(device, 1 << 20);
    expect(native.memory(device)).toMatchObject({ liveBytes: 2 << 20, cachedBytes: 0, peakBytes: 2 << 20 });
    native.release(first);
    expect(native.memory(device)).toMatchObject({ liveBytes: 1 << 20, cachedBytes: 1 << 20, peakBytes: 2 << 20 });
    native.resetPeak(device);
    expect(native.memory(device).peakBytes).toBe(1 << 20);
    native.releaseCached(device);
    expect(native.memory(device).cachedBytes).toBe(0);
    native.release(second);
  });

  test('an error that releaseCached() met on its way still rejects the next read', async () => {
    const device = native.openDevice('cpu', 0);
    const [ids, table, out] = [4, 4, 4].map((bytes) => native.allocate(device, bytes)) as [never, never, never];
    native.upload(ids, Int32Array.of(9));
    const kind = { dtype: 'f32', count: 1, tableRows: 1, columns: 1, firstId: 0, partial: false, accumulate: false } as const;
    native.embedding({ ...kind, scale: 1, ids, table, out });
    native.release(native.allocate(device, 64));
    native.releaseCached(device);
    await expect(native.fence(device)).rejects.toMatchObject({ code: 'ERR_TOKEN_ID' });
    await native.fence(device);
  });
});

describe('the garbage collector as a net', () => {
  async function collectUntil(done: () => boolean): Promise<void> {
    for (let round = 0; round < 20 && !done(); round += 1) {
      collectGarbage();
      await setImmediate();
    }
  }

  function leak(device: NativeDevice, count: number): void {
    for (let index = 0; index < count; index += 1) {
      const buffer = native.allocate(device, 1024);
      if (index % 2 === 0) native.view(buffer, 0, 512);
    }
  }

  test('frees buffers and views that were forgotten', async () => {
    const device = native.openDevice('cpu', 0);
    leak(device, 1000);
    const before = native.memory(device).liveBytes;
    await collectUntil(() => native.memory(device).liveBytes === 0);
    expect(before).toBe(1024 * 1000);
    expect(native.memory(device).liveBytes).toBe(0);
  });

  test('runs by itself when forgotten buffers pile up', async () => {
    const device = native.openDevice('cpu', 0);
    const [bytes, count] = [16 << 20, 400];
    let highest = 0;
    for (let index = 0; index < count; index += 1) {
      native.allocate(device, bytes);
      highest = Math.max(highest, native.memory(device).liveBytes);
      await setImmediate();
    }
    // Each handle is a few bytes of JavaScript: only the reported memory makes the collector run.
    expect(highest).toBeLessThan((count / 2) * bytes);
  });

  test('leaves a working set alone that is released each time', async () => {
    const device = native.openDevice('cpu', 0);
    const step = () => {
      const buffers = Array.from({ length: 50 }, () => native.allocate(device, 10 << 20));
      for (const buffer of buffers) native.release(buffer);
    };
    step();
    let collections = 0;
    const observer = new PerformanceObserver((list) => {
      collections += list.getEntries().length;
    });
    observer.observe({ entryTypes: ['gc'] });
    for (let index = 0; index < 100; index += 1) {
      step();
      await setImmediate();
    }
    observer.disconnect();
    // Reporting every byte made a collection or more in each step.
    expect(collections).toBeLessThan(25);
  });

  test('closes devices that were forgotten, not before their last promise', async () => {
    const pending = (() => {
      const device = native.openDevice('cpu', 0);
      const buffer = native.allocate(device, 4);
      native.upload(buffer, Float32Array.of(4));
      return native.read(buffer, new ArrayBuffer(4));
    })();
    for (let round = 0; round < 20; round += 1) native.openDevice('cpu', 0);
    collectGarbage();
    await pending;
    await collectUntil(() => false);
  });

  test('a storm of collections between calls does no harm', async () => {
    const device = native.openDevice('cpu', 0);
    for (let index = 0; index < 30; index += 1) {
      const buffer = native.allocate(device, 400);
      native.fill({ dtype: 'f32', count: 100, value: index, out: buffer });
      collectGarbage();
      const target = new ArrayBuffer(400);
      const read = native.read(buffer, target);
      collectGarbage();
      await read;
      expect(new Float32Array(target)[99]).toBe(index);
    }
  });
});
