import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeNpy } from '../../lib';
import { parseNpy } from '../support/npy';

const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-npy-'));
const file = path.join(folder, 'a.npy');
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  [[], [7]],
  [[3], [1, -0, 2.5]],
  [
    [2, 3],
    [1, 2, 3, 4, 5, 6],
  ],
  [[0, 5], []],
  [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [9]],
])('shape %j comes back', async (shape, values) => {
  await writeNpy(file, shape, [Float32Array.from(values)]);
  expect(parseNpy(readFileSync(file))).toEqual({ shape, values: Float32Array.from(values) });
});

test('parts are joined, views included', async () => {
  const all = Float32Array.of(0, 1, 2, 3, 4, 5);
  await writeNpy(file, [2, 2], [all.subarray(1, 2), all.subarray(2, 5)]);
  expect(parseNpy(readFileSync(file)).values).toEqual(Float32Array.of(1, 2, 3, 4));
});

test.each([[[1, 2, 3]], [[1, 2, 3, 4, 5]]])('the wrong number of values leaves the old file: %j', async (values) => {
  await writeNpy(file, [1], [Float32Array.of(8)]);
  await expect(writeNpy(file, [2, 2], [Float32Array.from(values)])).rejects.toMatchObject({
    code: 'ERR_ARG_SHAPE',
    message: `${file}: got ${values.length} values, expected 4 for shape [2, 2]`,
  });
  expect(parseNpy(readFileSync(file)).values).toEqual(Float32Array.of(8));
  expect(readdirSync(folder)).toEqual(['a.npy']);
});

test('a folder that is not there is named', async () => {
  await expect(writeNpy(path.join(folder, 'no', 'a.npy'), [0], [])).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
});
