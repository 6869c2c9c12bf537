/** Recordings at the addon's boundary: nothing passed in, and no end at any moment, may do harm. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { native, type NativeRecording } from '../../lib/native';
import { addonPath } from './support/addonPath';
import { codeOf, Workbench } from './support/workbench';

const bench = new Workbench();
afterAll(() => bench.releaseAll());

const addTo = (buffer: ReturnType<Workbench['bytes']>, value: number) =>
  native.add({ dtype: 'f32', count: 2, alpha: 1, beta: value, x: buffer, y: buffer, out: buffer });

test('a recording runs when it is replayed, and only then', async () => {
  const buffer = bench.floats(2);
  native.beginRecording(bench.device);
  addTo(buffer, 1);
  addTo(buffer, 2);
  const recording = native.endRecording();
  const [first] = await bench.read(buffer, 2);
  native.replay(recording);
  native.replay(recording);
  // What is enqueued before the recording is dropped runs.
  native.dropRecording(recording);
  expect((await bench.read(buffer, 2))[0]).toBe(36 * first!);
  native.dropRecording(recording);
  expect(codeOf(() => native.replay(recording))).toBe('ERR_DISPOSED');
});

test.each([undefined, null, {}, 'recording', new Proxy({}, {}), bench.device, bench.bytes(4)])('%p is no recording', (given) => {
  expect(codeOf(() => native.replay(given as NativeRecording))).toBe('ERR_ARG_HANDLE');
  expect(codeOf(() => native.dropRecording(given as NativeRecording))).toBe('ERR_ARG_HANDLE');
});

test('one at a time; what waits, moves data or is another recording is refused meanwhile', async () => {
  const [buffer, target] = [bench.bytes(8), new ArrayBuffer(8)];
  const other = native.openDevice('cpu', 0);
  const away = native.allocate(other, 8);
  expect(codeOf(() => native.endRecording())).toBe('ERR_RECORDING');
  expect(codeOf(() => native.beginRecording({} as typeof other))).toBe('ERR_ARG_HANDLE');
  native.beginRecording(bench.device);
  const empty = native.endRecording();
  native.beginRecording(bench.device);
  for (const refused of [
    () => native.beginRecording(bench.device),
    () => native.beginRecording(other),
    () => native.upload(buffer, new Float32Array(2)),
    () => native.fence(bench.device),
    () => native.releaseCached(bench.device),
    () => native.replay(empty),
    () => native.dropRecording(empty),
    () => addTo(away, 1),
  ]) {
    expect(codeOf(refused as () => void)).toBe('ERR_RECORDING');
  }
  await expect(async () => native.read(buffer, target)).rejects.toThrow(/read: cannot be recorded/);
  const recording = native.endRecording();
  native.replay(recording);
  native.replay(empty);
  for (const each of [recording, empty]) native.dropRecording(each);
  native.release(away);
  await native.fence(bench.device);
});

test('memory of a recording: reserved for it, counted as live, and free when it is dropped', () => {
  native.releaseCached(bench.device);
  const before = native.memory(bench.device);
  native.beginRecording(bench.device);
  const size = 1 << 16;
  const fill = (bytes: number) => {
    const buffer = native.allocate(bench.device, bytes);
    native.fill({ dtype: 'u8', count: bytes, value: 1, out: buffer });
    native.release(buffer);
  };
  for (let count = 0; count < 10; count += 1) fill(size);
  const recording = native.endRecording();
  expect(native.memory(bench.device).liveBytes - before.liveBytes).toBe(size);
  const others = Array.from({ length: 3 }, () => native.allocate(bench.device, size));
  expect(native.memory(bench.device).liveBytes - before.liveBytes).toBe(4 * size);
  for (const other of others) native.release(other);
  native.dropRecording(recording);
  expect(native.memory(bench.device).liveBytes).toBe(before.liveBytes);
});

/** Programs that end, or forget, at every moment of a recording's life. */
const endings = {
  'inside a recording': 'addon.beginRecording(device); fill();',
  'with a recording': 'addon.beginRecording(device); fill(); globalThis.kept = addon.endRecording(); addon.replay(kept);',
  'with replays under way':
    'addon.beginRecording(device); for (let i = 0; i < 200; i += 1) fill(); const r = addon.endRecording(); for (let i = 0; i < 200; i += 1) addon.replay(r); addon.dropRecording(r);',
  'with forgotten recordings':
    'for (let i = 0; i < 50; i += 1) { addon.beginRecording(device); fill(); addon.replay(addon.endRecording()); } gc();',
};

test.each(Object.entries(endings))('a worker and a process may end %s', (_, body) => {
  const prelude = `
    const addon = require(${JSON.stringify(path.resolve(addonPath))});
    const device = addon.openDevice('cpu', 0);
    const fill = () => {
      const out = addon.allocate(device, 1 << 20);
      addon.fill({ dtype: 'u8', count: 1 << 20, value: 1, out });
      addon.release(out);
    };`;
  const program = `
    const { Worker } = require('node:worker_threads');
    const worker = new Worker(${JSON.stringify(`${prelude}${body}; process.exit(3);`)}, { eval: true });
    worker.on('exit', (code) => {
      ${prelude}
      ${body}
      console.log('worker', code);
    });`;
  const output = execFileSync(process.execPath, ['--expose-gc', '-e', program], { encoding: 'utf8' });
  expect(output).toBe('worker 3\n');
});
