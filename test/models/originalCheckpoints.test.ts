/** Checkpoints of the original Transformer-XL repository and of NVIDIA's, as scripts/reference/transformer_xl_original.py makes them too. */
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLLMHeadModel, TransformerXLModel, noGrad } from '../../lib';
import { int, pickle, tensorPickle, text, torchZip, tuple } from '../support/torchFiles';

const config = {
  vocabSize: 40,
  cutoffs: [10, 20, 30],
  divVal: 2,
  nLayer: 2,
  dModel: 16,
  dEmbed: 16,
  nHead: 2,
  dHead: 8,
  dInner: 16,
  memLen: 5,
  clampLen: 3,
  sameLength: true,
  untieR: false,
  tieProjs: [false, true, true, true],
  initStd: 0.4,
};
const ids = [
  [1, 35, 9, 22],
  [39, 12, 0, 28],
];

interface Stored {
  shape: readonly number[];
  data: Float32Array;
}

let folder: string;
let model: TransformerXLLMHeadModel;
beforeAll(() => {
  model = new TransformerXLLMHeadModel(config, { seed: 3, device: 'cpu' });
});
afterAll(() => model.dispose());
beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-original-'));
});
afterEach(() => fs.rm(folder, { recursive: true }));

/** Weights under the names, and in the order of clusters, of mem_transformer.py. */
async function originalWeights(): Promise<Map<string, Stored>> {
  const weights = new Map<string, Stored>();
  for (const [name, parameter] of model.parameters()) {
    const data = (await parameter.data()) as Float32Array;
    const rows = parameter.shape[0] as number;
    const width = data.length / rows;
    const flipped = Array.from({ length: rows }, (_, row) => [
      ...data.slice((rows - 1 - row) * width, (rows - row) * width),
    ]);
    weights.set(name.replace(/^transformer\./, ''), {
      shape: parameter.shape,
      data: name.startsWith('crit.cluster_') ? Float32Array.from(flipped.flat()) : data,
    });
  }
  // Tied tensors are there under each of their names.
  for (const [tied, name] of [
    ['crit.out_layers.0.weight', 'word_emb.emb_layers.0.weight'],
    ['crit.out_projs.1', 'word_emb.emb_projs.1'],
  ] as const) {
    weights.set(tied, weights.get(name) as Stored);
  }
  return weights;
}

interface Place {
  key: string;
  data: Buffer;
}

function stateDict(weights: ReadonlyMap<string, Stored>): { value: Buffer; storages: Place[] } {
  const storages: Place[] = [];
  const entries: Buffer[] = [];
  for (const [name, { shape, data }] of weights) {
    const key = String(storages.length);
    storages.push({ key, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength) });
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    entries.push(text(name), tensorPickle({ key: text(key), size: data.length, shape: [...shape], strides }));
  }
  return { value: pickle('ccollections\nOrderedDict\n', ')', 'R', '(', ...entries, 'u'), storages };
}

const file = (value: Buffer) => pickle(0x80, 2, value, '.');

const zipFile = (value: Buffer, storages: Place[]) =>
  torchZip(
    file(value),
    storages.map(({ key, data }) => ({ name: `archive/data/${key}`, data })),
  );

/** The format before PyTorch 1.6: five pickles, then the storages. */
function legacyFile(value: Buffer, storages: Place[]): Buffer {
  const magic = Buffer.from('6cfc9c46f9206aa85019', 'hex');
  const system = pickle('}', text('little_endian'), 0x88, 's');
  const keys = pickle(']', '(', ...storages.map(({ key }) => text(key)), 'e');
  const bodies = storages.map(({ data }) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(data.length / 4));
    return Buffer.concat([count, data]);
  });
  const head = [pickle(0x8a, magic.length, magic), int(1001), system, value, keys].map(file);
  return Buffer.concat([...head, ...bodies]);
}

async function write(bytes: Buffer, more: Record<string, unknown> = {}): Promise<void> {
  await model.save(folder);
  await fs.rm(path.join(folder, 'model.safetensors'));
  const written = JSON.parse(await fs.readFile(path.join(folder, 'config.json'), 'utf8')) as object;
  const settings = { ...written, xlformers_compatibility: 'pytorch-original', ...more };
  await fs.writeFile(path.join(folder, 'config.json'), JSON.stringify(settings));
  await fs.writeFile(path.join(folder, 'model.pt'), bytes);
}

const load = () => TransformerXLLMHeadModel.fromPretrained(folder, { device: 'cpu' });

async function scores(of: TransformerXLLMHeadModel): Promise<number[]> {
  return Array.from(await noGrad(() => of.forward({ inputIds: ids, mems: 'zeros' })).predictionScores!.data());
}

async function expectSame(): Promise<void> {
  const loaded = await load();
  const [actual, expected] = [await scores(loaded), await scores(model)];
  expect(actual.length).toBe(2 * 4 * 40);
  actual.forEach((value, index) => expect(value).toBeCloseTo(expected[index] as number, 5));
  loaded.dispose();
}

test.each([
  ['zip', zipFile],
  ['the older format', legacyFile],
])('a state dict in model.pt, %s', async (_, make) => {
  const { value, storages } = stateDict(await originalWeights());
  await write(make(value, storages));
  await expectSame();
});

test("NVIDIA's names, inside the dictionary that its script saves", async () => {
  const weights = new Map<string, Stored>();
  for (const [name, stored] of await originalWeights()) {
    const [, kind] = /^crit\.out_layers\.\d+\.(bias|weight)$/.exec(name) ?? [];
    if (kind === 'bias')
      weights.set(name.replace(/^crit\.out_layers\.(\d+)\.bias$/, 'crit.out_layers_biases.$1'), stored);
    else if (kind === 'weight')
      weights.set(name.replace(/^crit\.out_layers\.(\d+)\.weight$/, 'crit.out_layers_weights.$1'), stored);
    else if (name === 'crit.out_projs.1') weights.set('crit.shared_out_projs.1', stored);
    else weights.set(name, stored);
  }
  const { value, storages } = stateDict(weights);
  await write(zipFile(pickle('}', text('epoch'), int(3), 's', text('model_state'), value, 's'), storages));
  await expectSame();
});

test('the bare model is taken from it too', async () => {
  const { value, storages } = stateDict(await originalWeights());
  await write(zipFile(value, storages));
  const bare = await TransformerXLModel.fromPretrained(folder, { device: 'cpu' });
  const run = (of: { forward: TransformerXLModel['forward'] }) =>
    noGrad(() => of.forward({ inputIds: ids, mems: 'zeros' })).lastHiddenState.data();
  expect([...(await run(bare))]).toEqual([...(await run(model.transformer))]);
  bare.dispose();
});

describe('what would be wrong in silence is refused', () => {
  test.each([
    [
      'the order of clusters',
      { xlformers_compatibility: 'hf' },
      /xlformers_compatibility in config.json must be 'pytorch-original' or 'nvidia'; got 'hf'/,
    ],
    ['no preset', { xlformers_compatibility: undefined }, /xlformers_compatibility/],
    ['biases of each layer', { untie_r: true }, /untie_r in config.json must be false; got true/],
  ])('%s', async (_, settings, message) => {
    const { value, storages } = stateDict(await originalWeights());
    await write(zipFile(value, storages), settings);
    await expect(load()).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: expect.stringMatching(message) as string }) as Error,
    );
  });

  test('weights that are missing', async () => {
    const weights = await originalWeights();
    weights.delete('crit.out_layers.2.bias');
    weights.delete('r_r_bias');
    const { value, storages } = stateDict(weights);
    await write(zipFile(value, storages));
    await expect(load()).rejects.toThrow(/missing: transformer.r_r_bias; missing: crit.out_layers.2.bias/);
  });
});

test.each([
  ['zip', (module: Buffer) => torchZip(file(module), [])],
  ['the older format', (module: Buffer) => legacyFile(module, [])],
])('a whole module, as the original saves it, is refused by name: %s', async (_, make) => {
  const module = pickle('cmem_transformer\nMemTransformerLM\n', ')', 0x81, '}', 'b');
  await write(make(module));
  await expect(load()).rejects.toMatchObject({
    code: 'ERR_PICKLE_GLOBAL',
    message: expect.stringMatching(
      /'mem_transformer\.MemTransformerLM'.*save its tensors alone: model\.state_dict\(\)/,
    ) as string,
  });
  const arguments_ = pickle('}', text('args'), 'cargparse\nNamespace\n', tuple(), 0x81, '}', 'b', 's');
  await write(make(arguments_));
  await expect(load()).rejects.toThrow(/'argparse\.Namespace'/);
});
