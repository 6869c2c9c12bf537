/** 16-bit files of models, which every device reads and writes, and models of 16 bits, which the CPU refuses. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  AutoModel,
  languageModelTask,
  openSafetensors,
  Trainer,
  trainInDirectory,
  TransformerXLLMHeadModel,
  XLNetModel,
  type FloatDType,
} from '../../lib';
import { fromShortFloat, toShortFloat } from '../../lib/dtype';
import { runMain } from '../support/cli';
import { codeOf } from '../support/errors';
import { smallModel, smallText } from '../support/smallRun';
import { shortTypes } from '../support/shortFloats';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-short-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const cpu = { device: 'cpu' } as const;
const configOf = (folder: string) =>
  JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;

describe.each(shortTypes)('%s', (dtype) => {
  const folder = path.join(scratch, dtype);
  const model = smallModel();
  afterAll(() => model.dispose());

  test('a float32 model saved in it, and read again as float32', async () => {
    await model.save(folder, { dtype });
    expect(configOf(folder).dtype).toBe(dtype);
    const file = await openSafetensors(path.join(folder, 'model.safetensors'));
    expect(file.tensors.size).toBe(model.parameters().size);
    for (const { dtype: stored } of file.tensors.values()) expect(stored).toBe(dtype === 'bfloat16' ? 'BF16' : 'F16');
    await file.close();
    const wide = await TransformerXLLMHeadModel.fromPretrained(folder, { ...cpu, checkFinite: true });
    for (const [name, parameter] of model.parameters()) {
      const rounded = fromShortFloat(toShortFloat(await parameter.data(), dtype), dtype);
      expect([name, await wide.parameters().get(name)!.data()]).toEqual([name, rounded]);
    }
    await wide.save(path.join(folder, 'wide'));
    expect(configOf(path.join(folder, 'wide')).dtype).toBe('float32');
    wide.dispose();
  });

  test('float64 weights are rounded once', async () => {
    const { config } = model;
    const double = new TransformerXLLMHeadModel(config, { ...cpu, dtype: 'float64', seed: 5 });
    const [parameter] = double.parameters().values();
    const ulp = dtype === 'float16' ? 2 ** -10 : 2 ** -7;
    parameter!.overwrite(new Float64Array(parameter!.size).fill(1 + ulp / 2 + 2 ** -40));
    await double.save(path.join(folder, 'double'), { dtype });
    const read = await TransformerXLLMHeadModel.fromPretrained(path.join(folder, 'double'), cpu);
    expect((await read.parameters().get(parameter!.name)!.data()).every((value) => value === 1 + ulp)).toBe(true);
    double.dispose();
    read.dispose();
  });

  test('the CPU refuses to compute in it, at the call', async () => {
    const message = /got b?float16 on device cpu, which does not compute in it; use float32, or a CUDA device/;
    expect(() => smallModel(1).setPrecision(dtype)).toThrow(message);
    for (const load of [TransformerXLLMHeadModel, AutoModel]) {
      await expect(load.fromPretrained(folder, { ...cpu, dtype })).rejects.toThrow(message);
    }
    const shape = { vocabSize: 9, nLayer: 1, dModel: 8, nHead: 2, dInner: 8 };
    expect(() => new XLNetModel(shape, { ...cpu, dtype })).toThrow(message);
    expect(await codeOf(() => new XLNetModel(shape, { ...cpu, dtype }))).toBe('ERR_UNSUPPORTED');
    const task = languageModelTask(model, { train: smallText });
    expect(() => new Trainer(task, { precision: dtype, batchSize: 2, targetLength: 4 })).toThrow(message);
    const directory = path.join(scratch, `run-${dtype}`);
    await expect(trainInDirectory({ task, directory, config: { precision: dtype, batchSize: 2 } })).rejects.toThrow(
      message,
    );
    expect(model.precision).toBe('float32');
  });

  test('so do the commands', async () => {
    const text = path.join(scratch, 'text');
    const commands = [
      ['evaluate', folder, 'package.json', '--dtype', dtype],
      ['train', 'package.json', '--out', text, '--precision', dtype],
    ];
    for (const args of commands) {
      const { code, stderr } = await runMain([...args, '--device', 'cpu']);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/got b?float16 on device cpu.* use float32/)]);
    }
  });
});

test('types that models do not have', async () => {
  for (const dtype of ['int32', 'half', '', null, 5]) {
    expect(await codeOf(() => smallModel(1).setPrecision(dtype as FloatDType))).toBe('ERR_ARG_TYPE');
    expect(await codeOf(() => smallModel(1).save(path.join(scratch, 'none'), { dtype: dtype as FloatDType }))).toBe(
      'ERR_ARG_TYPE',
    );
    if (dtype === null) continue;
    expect(
      await codeOf(
        () =>
          new XLNetModel(
            { vocabSize: 9, nLayer: 1, dModel: 8, nHead: 2, dInner: 8 },
            { ...cpu, dtype: dtype as FloatDType },
          ),
      ),
    ).toBe('ERR_ARG_TYPE');
  }
  expect(await codeOf(() => smallModel().setPrecision('float64'))).toBe('ERR_CONFIG');
});

test('weights that float16 does not hold are infinite, and refused by checkFinite', async () => {
  const model = smallModel();
  const [parameter] = model.parameters().values();
  parameter!.overwrite(new Float32Array(parameter!.size).fill(70_000));
  const folder = path.join(scratch, 'large');
  await model.save(folder, { dtype: 'float16' });
  expect(await codeOf(() => TransformerXLLMHeadModel.fromPretrained(folder, { ...cpu, checkFinite: true }))).toBe(
    'ERR_NOT_FINITE',
  );
  model.dispose();
});
