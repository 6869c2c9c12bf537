/** Tables A and C of docs/security.md: sound files of another model, and configurations that make none. */
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  AutoModel,
  TransformerXLModel,
  XLNetModel,
  XLNetLMHeadModel,
  openSafetensors,
  writeSafetensors,
} from '../../lib';
import type { SafetensorsEntry } from '../../lib/checkpoints/safetensors';
import { transformerXLConfigFromFile } from '../../lib/models/transformerXLConfig';
import { xlnetConfigFromFile } from '../../lib/models/xlnetConfig';

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-wrong-'));
});
afterEach(() => fs.rm(folder, { recursive: true }));

const sizes = { vocabSize: 11, dModel: 4, nLayer: 1, nHead: 2, dInner: 6 };
const config = () => path.join(folder, 'config.json');

async function save(): Promise<SafetensorsEntry[]> {
  const model = new XLNetLMHeadModel(sizes, { device: 'cpu' });
  await model.save(folder);
  model.dispose();
  const file = await openSafetensors(path.join(folder, 'model.safetensors'));
  const entries: SafetensorsEntry[] = [];
  for (const [name, { dtype, shape }] of file.tensors) {
    entries.push({ name, dtype, shape, data: await file.read(name) });
  }
  await file.close();
  return entries;
}

const write = (entries: SafetensorsEntry[]) => writeSafetensors(path.join(folder, 'model.safetensors'), entries);
const load = (options = {}) => XLNetLMHeadModel.fromPretrained(folder, { device: 'cpu', ...options });

describe('weights of another model', () => {
  const layer = 'transformer.layer.0.rel_attn.q';

  test.each<[string, (entries: SafetensorsEntry[]) => SafetensorsEntry[], string]>([
    ['a tensor missing', (entries) => entries.filter(({ name }) => name !== layer), `missing: ${layer}`],
    [
      'a tensor too many',
      (entries) => [...entries, { ...entries[0]!, name: 'transformer.layer.7.rel_attn.q' }],
      'unexpected: transformer.layer.7.rel_attn.q',
    ],
    [
      'a tensor transposed',
      (entries) =>
        entries.map((entry) =>
          entry.name.endsWith('layer_1.weight') ? { ...entry, shape: [...entry.shape].reverse() } : entry,
        ),
      'shape of transformer.layer.0.ff.layer_1.weight: [4, 6], expected [6, 4]',
    ],
    [
      'another vocabulary',
      (entries) =>
        entries.map((entry) =>
          entry.name.endsWith('word_embedding.weight')
            ? { ...entry, shape: [10, 4], data: entry.data.subarray(16) }
            : entry,
        ),
      'shape of transformer.word_embedding.weight: [10, 4], expected [11, 4]',
    ],
    [
      'tied weights that differ',
      (entries) => [...entries, { name: 'lm_loss.weight', dtype: 'F32', shape: [11, 4], data: new Uint8Array(4 * 44) }],
      'transformer.word_embedding.weight differs from lm_loss.weight, which this model ties to it',
    ],
  ])('%s', async (_, change, words) => {
    await write(change(await save()));
    await expect(load()).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      message: expect.stringContaining(words) as string,
    });
    await expect(load()).rejects.toThrow(folder);
  });

  test('tied weights that agree are read once', async () => {
    const entries = await save();
    const embedding = entries.find(({ name }) => name.endsWith('word_embedding.weight'))!;
    await write([...entries, { ...embedding, name: 'lm_loss.weight' }]);
    const model = await load();
    expect(new Uint8Array((await model.parameters().get(embedding.name)!.data()).buffer)).toEqual(
      new Uint8Array(embedding.data),
    );
    model.dispose();
  });

  test('integers for weights', async () => {
    await write((await save()).map((entry) => (entry.name === layer ? { ...entry, dtype: 'I32' } : entry)));
    await expect(load()).rejects.toMatchObject({ code: 'ERR_SAFETENSORS_DTYPE' });
  });

  test.each([NaN, Infinity, -Infinity])('%d is refused with checkFinite', async (value) => {
    const entries = await save();
    const data = new Float32Array(entries[1]!.data.buffer.slice(0));
    data[data.length - 1] = value;
    entries[1] = { ...entries[1]!, data: new Uint8Array(data.buffer) };
    await write(entries);
    await expect(load({ checkFinite: true })).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringContaining(`tensor '${entries[1].name}' holds ${value}`) as string,
    });
    (await load()).dispose();
  });

  test('what a checkpoint lacks and may lack has the values of a fresh model of that seed', async () => {
    const fresh = new XLNetLMHeadModel(sizes, { device: 'cpu', seed: 5 });
    await fresh.save(folder);
    const loaded = await load({ seed: 6 });
    for (const [name, parameter] of fresh.parameters()) {
      expect(await loaded.parameters().get(name)!.data()).toEqual(await parameter.data());
    }
    fresh.dispose();
    loaded.dispose();
  });
});

describe('configurations', () => {
  const xlnet = { model_type: 'xlnet', vocab_size: 11, d_model: 4, n_layer: 1, n_head: 2, d_inner: 6 };
  const transformerXL = {
    model_type: 'transfo-xl',
    vocab_size: 11,
    d_model: 4,
    d_embed: 4,
    n_head: 2,
    d_head: 2,
    d_inner: 6,
    cutoffs: [3],
  };
  const parsers = {
    xlnet: [xlnet, xlnetConfigFromFile],
    'transfo-xl': [transformerXL, transformerXLConfigFromFile],
  } as const;

  const common: [field: string, value: unknown][] = [
    ...(['n_layer', 'vocab_size', 'd_inner', 'n_head'] as const).flatMap((field) =>
      [0, -1, 1.5, 1e9 + 0.5, 2 ** 31, '4', NaN, Infinity, true, [], {}].map(
        (value) => [field, value] as [string, unknown],
      ),
    ),
    ['n_layer', 1e9],
    ['d_model', 0],
    ['d_model', 3],
    ['n_head', 1e9],
    ['mem_len', -1],
    ['mem_len', 2 ** 31],
    ['mem_len', '5'],
    ['clamp_len', NaN],
    ['clamp_len', 1.5],
    ['dropout', 1],
    ['dropout', -0.1],
    ['dropout', '0.1'],
    ['tie_word_embeddings', 'yes'],
    ['model_type', 'bert'],
    ['model_type', 5],
  ];
  const cases: [family: keyof typeof parsers, field: string, value: unknown][] = [
    ...common.map(([field, value]) => ['xlnet', field, value] as ['xlnet', string, unknown]),
    ...common.map(([field, value]) => ['transfo-xl', field, value] as ['transfo-xl', string, unknown]),
    ['xlnet', 'ff_activation', 'eval'],
    ['xlnet', 'attn_type', 'both'],
    ['xlnet', 'layer_norm_eps', 'small'],
    ['xlnet', 'summary_type', 'attn'],
    ['transfo-xl', 'cutoffs', [5, 3]],
    ['transfo-xl', 'cutoffs', [3, 3]],
    ['transfo-xl', 'cutoffs', [11]],
    ['transfo-xl', 'cutoffs', [100]],
    ['transfo-xl', 'cutoffs', [0]],
    ['transfo-xl', 'cutoffs', [1.5]],
    ['transfo-xl', 'cutoffs', '3'],
    ['transfo-xl', 'div_val', 0],
    ['transfo-xl', 'div_val', 2 ** 20],
    ['transfo-xl', 'd_head', 257],
    ['transfo-xl', 'attn_type', 1],
  ];

  test.each(cases)('%s: %s %p', (family, field, value) => {
    const [base, parse] = parsers[family];
    const camel = field.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    expect(() => parse({ ...base, [field]: value })).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: expect.stringMatching(new RegExp(`config\\.(${camel}|${field})\\b.*: got .*, expected `)) as string,
      }) as Error,
    );
  });

  test.each(Object.keys(parsers))('%s: the sizes alone are a model', (family) => {
    const [base, parse] = parsers[family as keyof typeof parsers];
    expect(() => parse(base)).not.toThrow();
  });

  const written = async (content: string | Uint8Array) => {
    await fs.writeFile(config(), content);
    return AutoModel.fromPretrained(folder, { device: 'cpu' });
  };

  test.each([
    ['an array', '[]'],
    ['null', 'null'],
    ['a number', '3'],
    ['no JSON', '{'],
    ['NaN', '{"model_type": "xlnet", "dropout": NaN}'],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['deep nesting', '['.repeat(500_000)],
    ['a megabyte too much', `{"a": "${'x'.repeat(2 ** 20)}"}`],
    ['no type', '{}'],
    ['another type', '{"model_type": "bert"}'],
    ['a type that is a property of every object', '{"model_type": "constructor"}'],
    ['a class that is a property of every object', '{"architectures": ["toString"]}'],
    ['a field out of range', JSON.stringify({ ...xlnet, n_layer: 0 })],
  ])('%s is refused by file name', async (_, content) => {
    await expect(written(content)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining(folder) as string,
    });
  });

  test('100 MB are not read', async () => {
    await fs.writeFile(config(), '{');
    await fs.truncate(config(), 100e6);
    await expect(AutoModel.fromPretrained(folder)).rejects.toMatchObject({ code: 'ERR_CONFIG' });
  });

  test('a missing file', async () => {
    await expect(AutoModel.fromPretrained(folder)).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      message: expect.stringContaining(config()) as string,
    });
  });

  test.each<[string, object, string]>([
    ['xlnet', { vocabSize: 2 ** 31 - 1, dModel: 2 ** 20, nHead: 4096 }, 'vocabSize x dModel'],
    ['xlnet', { nLayer: 4096, dModel: 2 ** 20, nHead: 4096 }, 'nLayer x dModel x dModel'],
    ['transfo-xl', { nLayer: 4096, dInner: 2 ** 24, dModel: 2 ** 20 }, 'nLayer x dModel x dInner'],
  ])('%s: more weights than memory: %p', (family, options, terms) => {
    const make = () =>
      family === 'xlnet'
        ? new XLNetModel(options, { device: 'cpu' })
        : new TransformerXLModel(options, { device: 'cpu' });
    expect(make).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: expect.stringMatching(
          new RegExp(`weights take .* GiB, of which ${terms} .* GiB of device cpu`),
        ) as string,
      }) as Error,
    );
  });

  test('names of prototypes are plain names', () => {
    const file = JSON.parse('{"__proto__": {"n_layer": 0, "dropout": 7}, "constructor": 5}') as object;
    expect(xlnetConfigFromFile({ ...xlnet, ...file }).nLayer).toBe(1);
    expect(({} as { dropout?: number }).dropout).toBeUndefined();
  });

  test.each(['auto_map', 'trust_remote_code'])('%s runs nothing and gives a warning', async (field) => {
    await save();
    const file = JSON.parse(await fs.readFile(config(), 'utf8')) as object;
    await fs.writeFile(config(), JSON.stringify({ ...file, [field]: { AutoModel: 'evil.Model' } }));
    await fs.writeFile(path.join(folder, 'evil.py'), 'raise SystemExit');
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    (await load()).dispose();
    expect(warn.mock.calls).toEqual([
      [`${config()}: '${field}' is ignored: no code of a model is ever run`, 'XlformersWarning'],
    ]);
    warn.mockRestore();
  });
});
