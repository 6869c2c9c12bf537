import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XLNetModel, convertCheckpoint, openSafetensors, openWeights, writeSafetensors } from '../../lib';
import { openFile } from '../../lib/checkpoints/weights';
import { fixturePath, readJson } from '../support/fixtures';

const source = fixturePath('hf', 'xlnet-plain');
let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-convert-'))));
afterEach(() => rmSync(folder, { recursive: true }));

async function contents(opened: ReturnType<typeof openWeights>): Promise<Record<string, unknown>> {
  const file = await opened;
  const found: Record<string, unknown> = {};
  for (const [name, { dtype, shape }] of file.tensors) {
    found[name] = [dtype, [...shape], Buffer.from(await file.read(name)).toString('base64')];
  }
  await file.close();
  return found;
}

test('from safetensors to a PyTorch file and back, nothing changes', async () => {
  const [bin, back] = [path.join(folder, 'bin'), path.join(folder, 'back')];
  const seen: number[] = [];
  const report = await convertCheckpoint(source, bin, {
    format: 'bin',
    onProgress: ({ index, count }) => void seen.push(index / count),
  });
  const original = await contents(openWeights(source));
  expect(report).toMatchObject({ file: path.join(bin, 'pytorch_model.bin'), tensors: Object.keys(original).length });
  expect(seen).toEqual(Object.keys(original).map((_, index) => index / report.tensors));
  await convertCheckpoint(bin, back);
  expect(await contents(openWeights(back))).toEqual(original);
  expect(readJson(back, 'config.json')).toEqual(readJson(source, 'config.json'));
  const model = await XLNetModel.fromPretrained(bin, { device: 'cpu' });
  model.dispose();
});

test('single files, by the endings of their names', async () => {
  const [bin, back] = [path.join(folder, 'w.bin'), path.join(folder, 'w.safetensors')];
  await convertCheckpoint(path.join(source, 'model.safetensors'), bin);
  await convertCheckpoint(bin, back, { format: 'safetensors' });
  expect(await contents(openFile(back))).toEqual(await contents(openWeights(source)));
  expect(readdirSync(folder).sort()).toEqual(['w.bin', 'w.safetensors']);
});

test('floating types are rounded, integers stay, the configuration says the type', async () => {
  const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 65520, 2 ** -25, 3 * 2 ** -25, -0, NaN, -Infinity);
  const from = path.join(folder, 'from');
  mkdirSync(from);
  writeFileSync(path.join(from, 'config.json'), '{"model_type": "xlnet", "torch_dtype": "float32"}');
  await writeSafetensors(path.join(from, 'model.safetensors'), [
    { name: 'x', dtype: 'F32', shape: [9], data: new Uint8Array(values.buffer) },
    { name: 'n', dtype: 'I64', shape: [1], data: new Uint8Array(BigInt64Array.of(5n).buffer) },
  ]);
  const bits = async (dtype: 'float16' | 'bfloat16') => {
    const to = path.join(folder, dtype);
    await convertCheckpoint(from, to, { dtype });
    expect(readJson(to, 'config.json')).toEqual({ model_type: 'xlnet', torch_dtype: dtype });
    const file = await openSafetensors(path.join(to, 'model.safetensors'));
    expect(file.tensors.get('n')?.dtype).toBe('I64');
    const { buffer } = await file.read('x');
    await file.close();
    return Array.from(new Uint16Array(buffer), (each) => each.toString(16));
  };
  // To nearest, ties to even: 1 + 2^-8 is half way between bfloat16's neighbours, 2^-25 between float16's 0 and least number.
  expect(await bits('bfloat16')).toEqual(['3f80', '3f80', '3f82', '4780', '3300', '33c0', '8000', '7fc0', 'ff80']);
  expect(await bits('float16')).toEqual(['3c00', '3c04', '3c0c', '7c00', '0', '2', '8000', '7e00', 'fc00']);
});

test('files that are there are kept unless they may be replaced', async () => {
  const target = path.join(folder, 'to');
  mkdirSync(target);
  writeFileSync(path.join(target, 'config.json'), '{}');
  await expect(convertCheckpoint(source, target)).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT_EXISTS',
    message: expect.stringContaining(path.join(target, 'config.json')),
  });
  expect(readdirSync(target)).toEqual(['config.json']);
  await convertCheckpoint(source, target, { overwrite: true });
  await expect(convertCheckpoint(source, target)).rejects.toThrow(/model.safetensors: is there already/);
  // In place, too.
  await convertCheckpoint(target, target, { overwrite: true, dtype: 'float16' });
  expect(readJson(target, 'config.json')).toMatchObject({ dtype: 'float16' });
  expect(Object.values(await contents(openWeights(target))).every((info) => (info as string[])[0] === 'F16')).toBe(
    true,
  );
});

test('what cannot be is refused before anything is written', async () => {
  const target = path.join(folder, 'to');
  const refused = (from: string, to: string, options: object, code: string) =>
    expect(convertCheckpoint(from, to, options)).rejects.toMatchObject({ code });
  await refused(path.join(folder, 'none'), target, {}, 'ERR_FILE_NOT_FOUND');
  await refused(folder, target, {}, 'ERR_FILE_NOT_FOUND');
  await refused(source, target, { dtype: 'int8' }, 'ERR_ARG_RANGE');
  await refused(source, target, { format: 'onnx' }, 'ERR_ARG_RANGE');
  await refused(source, `${target}.bin`, { format: 'safetensors' }, 'ERR_ARG_RANGE');
  expect(readdirSync(folder)).toEqual([]);
});

test('a signal ends it and leaves no file', async () => {
  const controller = new AbortController();
  const target = path.join(folder, 'to');
  const onProgress = () => controller.abort();
  await expect(convertCheckpoint(source, target, { signal: controller.signal, onProgress })).rejects.toThrow(/abort/i);
  expect(readdirSync(target)).toEqual([]);
});

test('a PyTorch file keeps its bytes when read as it was written', async () => {
  const file = path.join(folder, 'w.bin');
  await convertCheckpoint(path.join(source, 'model.safetensors'), file);
  const before = readFileSync(file);
  await convertCheckpoint(file, file, { overwrite: true });
  expect(readFileSync(file).equals(before)).toBe(true);
});
