import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeSafetensors } from '../../lib';
import { openWeights } from '../../lib/checkpoints/weights';

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-weights-'));
});
afterEach(() => fs.rm(folder, { recursive: true }));

const entry = (name: string, value: number) => ({
  name,
  dtype: 'F32' as const,
  shape: [1],
  data: new Uint8Array(Float32Array.of(value).buffer),
});
const index = (map: unknown) =>
  fs.writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
const shard = (file: string, ...entries: ReturnType<typeof entry>[]) =>
  writeSafetensors(path.join(folder, file), entries);

test('several files are read as one', async () => {
  await shard('a.safetensors', entry('x', 1), entry('y', 2));
  await shard('b.safetensors', entry('z', 3));
  await index({ x: 'a.safetensors', y: 'a.safetensors', z: 'b.safetensors' });
  const weights = await openWeights(folder);
  expect([...weights.tensors.keys()].sort()).toEqual(['x', 'y', 'z']);
  expect(new Float32Array((await weights.read('z')).buffer)).toEqual(Float32Array.of(3));
  expect(() => weights.read('w')).toThrow(/no tensor 'w'/);
  await weights.close();
});

test('one file comes before several', async () => {
  await shard('model.safetensors', entry('x', 7));
  await index({ x: '../x.safetensors' });
  const weights = await openWeights(folder);
  expect(new Float32Array((await weights.read('x')).buffer)).toEqual(Float32Array.of(7));
  await weights.close();
});

test('a folder without weights says what was looked for', async () => {
  await expect(openWeights(folder)).rejects.toThrow(/no weights; looked for model.safetensors, .*pytorch_model.bin/);
});

test.each([
  ['a path upwards', { x: '../a.safetensors' }, 'ERR_PATH'],
  ['an absolute path', { x: '/tmp/a.safetensors' }, 'ERR_PATH'],
  ['a path inside that leads out', { x: 'a/../../b.safetensors' }, 'ERR_PATH'],
  ['a drive', { x: 'C:\\a.safetensors' }, 'ERR_PATH'],
  ['a network path', { x: '\\\\host\\a.safetensors' }, 'ERR_PATH'],
  ['NUL', { x: 'a\0.safetensors' }, 'ERR_PATH'],
  ['another kind of file', { x: 'passwd' }, 'ERR_PATH'],
  ['a number', { x: 5 }, 'ERR_PATH'],
  ['a missing file', { x: 'gone.safetensors' }, 'ERR_FILE_NOT_FOUND'],
  [
    'a tensor that its file lacks',
    { x: 'a.safetensors', y: 'a.safetensors', q: 'a.safetensors' },
    'ERR_CHECKPOINT_INDEX',
  ],
  ['a tensor that is not listed', { x: 'a.safetensors' }, 'ERR_CHECKPOINT_INDEX'],
  ['a tensor in two files', { x: 'a.safetensors', y: 'a.safetensors', z: 'b.safetensors' }, 'ERR_CHECKPOINT_INDEX'],
  ['no files', {}, 'ERR_CHECKPOINT_INDEX'],
  ['a list', [], 'ERR_CHECKPOINT_INDEX'],
  ['nothing', undefined, 'ERR_CHECKPOINT_INDEX'],
])('an index with %s is refused', async (what, map, code) => {
  await shard('a.safetensors', entry('x', 1), entry('y', 2));
  await shard('b.safetensors', entry('z', 3), ...(what.includes('two files') ? [entry('y', 4)] : []));
  await index(map);
  await expect(openWeights(folder)).rejects.toMatchObject({ code });
});
