/** Each difference of docs/compatibility.md, against the code it was read from. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  Tensor,
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  TransformerXLModel,
  XLNetLMHeadModel,
  XLNetModel,
  noGrad,
  type Compatibility,
  type XLNetOptions,
} from '../../lib';
import { compatibilityRules } from '../../lib/models/compatibility';
import { transformerXLConfig } from '../../lib/models/transformerXLConfig';
import { feedForwardActivation, xlnetConfig } from '../../lib/models/xlnetConfig';
import { TestRandom } from '../support/random';

const all: Compatibility[] = ['hf', 'pytorch-original', 'tf-original', 'nvidia'];

/** Keys that each query sees, by the masks as the implementations build them. */
function visibleByMask(preset: Compatibility, queries: number, memory: number, memoryLength: number): number[] {
  const keys = memory + queries;
  const masked = (i: number, j: number): boolean => {
    if (j > memory + i) return true; // triu(ones, 1 + mlen)
    if (preset === 'tf-original') return j < queries && j < i; // mask_l - mask_dia over the first qlen columns
    const maskLength = preset === 'nvidia' ? keys - memoryLength - 1 : keys - memoryLength;
    const shift = maskLength > 0 ? queries - maskLength : queries;
    return j - i <= -shift; // tril(ones, -mask_shift_len)
  };
  return Array.from(
    { length: queries },
    (_, i) => Array.from({ length: keys }, (__, j) => j).filter((j) => !masked(i, j)).length,
  );
}

test.each([
  ['hf', [7, 8, 8, 8]],
  ['pytorch-original', [7, 8, 8, 8]],
  ['nvidia', [7, 8, 9, 9]],
  ['tf-original', [7, 7, 7, 7]],
] as const)('%s: keys visible under same_length, 4 queries, 6 of 8 memory rows', (preset, expected) => {
  expect(visibleByMask(preset, 4, 6, 8)).toEqual(expected);
});

test.each(all)('%s: the band equals the mask for many lengths', (preset) => {
  for (let queries = 1; queries <= 9; queries += 1) {
    for (let memory = 0; memory <= 12; memory += 1) {
      for (const memoryLength of [memory, memory + 3, Math.max(1, memory - 2)].filter((length) => length > 0)) {
        const lower = compatibilityRules[preset].sameLengthLower(queries, memory + queries, memoryLength);
        const counts = Array.from({ length: queries }, (_, i) => memory + i - Math.max(0, i + lower) + 1);
        expect(counts).toEqual(visibleByMask(preset, queries, memory, memoryLength));
      }
    }
  }
});

const small = {
  vocabSize: 30,
  cutoffs: [8, 16],
  divVal: 1,
  nLayer: 2,
  dModel: 16,
  dEmbed: 16,
  nHead: 2,
  dHead: 8,
  dInner: 16,
  memLen: 5,
  clampLen: -1,
  initStd: 0.5,
};
const ids = [[1, 20, 9, 4]];

test.each(all)('%s: first memory, layer-norm epsilon and attention shape', async (preset) => {
  const model = new TransformerXLModel({ ...small, sameLength: true, compatibility: preset }, { device: 'cpu' });
  const zeros = preset === 'hf' || preset === 'tf-original';
  const { attentions } = noGrad(() => model.forward({ inputIds: ids, outputAttentions: true }));
  expect(attentions![0]!.shape).toEqual([1, 2, 4, zeros ? 9 : 4]);
  // What is asked for wins over the preset.
  const asked = noGrad(() => model.forward({ inputIds: ids, outputAttentions: true, mems: zeros ? 'empty' : 'zeros' }));
  expect(asked.attentions![0]!.shape[3]).toBe(zeros ? 4 : 9);
  expect(model.config.layerNormEpsilon).toBe(preset === 'tf-original' ? 1e-12 : 1e-5);
  const rows = await attentions![0]!.data();
  const seen = Array.from(
    { length: 4 },
    (_, i) => [...rows.slice(i * (zeros ? 9 : 4), (i + 1) * (zeros ? 9 : 4))].filter((p) => p > 0).length,
  );
  expect(seen).toEqual(visibleByMask(preset, 4, zeros ? 5 : 0, 5));
});

test('cluster columns: the original counts from the last', async () => {
  const make = (compatibility: Compatibility) =>
    new TransformerXLLMHeadModel(
      { ...small, sameLength: false, untieR: true, compatibility },
      { seed: 2, device: 'cpu' },
    );
  const [forward, reversed] = [make('hf'), make('pytorch-original')];
  // Flipping the rows of cluster_weight and cluster_bias converts one into the other.
  for (const name of ['crit.cluster_weight', 'crit.cluster_bias']) {
    const parameter = reversed.parameters().get(name)!;
    const values = await parameter.data();
    const half = values.length / 2;
    parameter.overwrite(Float32Array.of(...values.slice(half), ...values.slice(0, half)));
  }
  const bias = Float32Array.of(0.5, -1);
  forward.parameters().get('crit.cluster_bias')!.overwrite(bias);
  reversed.parameters().get('crit.cluster_bias')!.overwrite(Float32Array.of(-1, 0.5));
  const scores = async (model: TransformerXLLMHeadModel) => [
    ...(await noGrad(() => model.forward({ inputIds: ids, mems: 'empty' })).predictionScores!.data()),
  ];
  const [a, b] = [await scores(forward), await scores(reversed)];
  a.forEach((value, index) => expect(b[index]).toBeCloseTo(value, 5));
  const total = a.slice(0, 30).reduce((sum, value) => sum + Math.exp(value), 0);
  expect(total).toBeCloseTo(1, 5);
});

const xlnetSmall: XLNetOptions = { vocabSize: 30, nLayer: 2, dModel: 16, nHead: 2, dInner: 24, initializerRange: 0.5 };
const gelu = { erf: 'gelu', tanh: 'geluTanh' } as const;

describe('GELU', () => {
  test.each([
    ['hf', 'erf'],
    ['pytorch-original', 'erf'],
    ['tf-original', 'tanh'],
    ['nvidia', 'erf'],
  ] as const)('%s: "gelu" is the %s form; other activations are what they are', (compatibility, form) => {
    const of = (ffActivation: XLNetOptions['ffActivation']) =>
      feedForwardActivation(xlnetConfig({ ...xlnetSmall, ffActivation, compatibility }));
    expect(['gelu', 'gelu_new', 'relu', 'silu'].map((name) => of(name as 'gelu'))).toEqual([
      gelu[form],
      'geluTanh',
      'relu',
      'silu',
    ]);
  });

  test('a model follows the rule: "gelu" of tf-original gives what "gelu_new" gives, and not what "gelu" of hf gives', async () => {
    const states = async (ffActivation: XLNetOptions['ffActivation'], compatibility: Compatibility) => {
      const model = new XLNetModel(
        { ...xlnetSmall, ffActivation, compatibility },
        { seed: 3, device: 'cpu', dtype: 'float64' },
      );
      const data = [...(await noGrad(() => model.forward({ inputIds: ids })).lastHiddenState.data())];
      model.dispose();
      return data;
    };
    const [tf, tanh, erf, tfNew] = [
      await states('gelu', 'tf-original'),
      await states('gelu_new', 'hf'),
      await states('gelu', 'hf'),
      await states('gelu_new', 'tf-original'),
    ];
    expect(tf).toEqual(tanh);
    expect(tfNew).toEqual(tanh);
    // The two forms differ by at most 5e-4 in a value, and so do the models by little, but they do.
    const difference = Math.max(...tf.map((value, index) => Math.abs(value - erf[index]!)));
    expect(difference).toBeGreaterThan(1e-6);
    expect(difference).toBeLessThan(1e-1);
  });
});

describe('save and load', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-preset-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const config = (directory: string) =>
    JSON.parse(readFileSync(path.join(directory, 'config.json'), 'utf8')) as Record<string, unknown>;

  test.each(all)('%s goes with the model, and every number with it', async (compatibility) => {
    const directory = path.join(folder, compatibility);
    const model = new TransformerXLLMHeadModel(
      { ...small, sameLength: true, compatibility },
      { seed: 4, device: 'cpu' },
    );
    await model.save(directory);
    expect(config(directory)).toMatchObject({
      xlformers_compatibility: compatibility,
      layer_norm_epsilon: model.config.layerNormEpsilon,
      untie_r: model.config.untieR,
    });
    const loaded = await TransformerXLLMHeadModel.fromPretrained(directory, { device: 'cpu' });
    expect(loaded.config).toEqual(model.config);
    const scores = async (each: TransformerXLLMHeadModel) => {
      // Two segments: first memory, same_length and cluster order all have their part.
      const first = noGrad(() => each.forward({ inputIds: ids }));
      const second = noGrad(() => each.forward({ inputIds: [[7, 11, 25]], mems: first.mems! }));
      return [[...(await first.predictionScores!.data())], [...(await second.predictionScores!.data())]];
    };
    expect(await scores(loaded)).toEqual(await scores(model));
    // A file that says nothing of it is Hugging Face's.
    const { xlformers_compatibility: _, ...silent } = config(directory);
    writeFileSync(path.join(directory, 'config.json'), JSON.stringify(silent));
    expect((await TransformerXLLMHeadModel.fromPretrained(directory, { device: 'cpu' })).config.compatibility).toBe(
      'hf',
    );
  });

  test.each(all)('%s goes with an XLNet', async (compatibility) => {
    const directory = path.join(folder, `xlnet-${compatibility}`);
    const model = new XLNetLMHeadModel({ ...xlnetSmall, memLen: null, compatibility }, { seed: 4, device: 'cpu' });
    await model.save(directory);
    expect(config(directory)).toMatchObject({ xlformers_compatibility: compatibility, ff_activation: 'gelu' });
    const loaded = await XLNetLMHeadModel.fromPretrained(directory, { device: 'cpu' });
    expect(loaded.config).toEqual(model.config);
    const logits = async (each: XLNetLMHeadModel) => [
      ...(await noGrad(() => each.forward({ inputIds: ids })).logits!.data()),
    ];
    expect(await logits(loaded)).toEqual(await logits(model));
  });
});

test.each([
  ['hf', true],
  ['pytorch-original', false],
  ['tf-original', true],
  ['nvidia', false],
] as const)('%s: position biases by layer: %p, unless configured', (compatibility, untied) => {
  const names = (more: object) => {
    const model = new TransformerXLModel({ ...small, sameLength: false, compatibility, ...more }, { device: 'cpu' });
    return [...model.parameters().keys()].filter((name) => /r_[wr]_bias$/.test(name)).sort();
  };
  const shared = ['r_r_bias', 'r_w_bias'];
  const byLayer = [0, 1].flatMap((layer) => shared.map((name) => `layers.${layer}.dec_attn.${name}`));
  expect(names({})).toEqual(untied ? byLayer : shared);
  expect(names({ untieR: !untied })).toEqual(untied ? shared : byLayer);
});

test.each(all)('%s: initial layer norms and cluster columns', async (compatibility) => {
  const model = new TransformerXLLMHeadModel(
    { ...small, sameLength: false, compatibility },
    { seed: 5, device: 'cpu' },
  );
  const values = async (name: string) => [...(await model.parameters().get(name)!.data())];
  const norms = await values('transformer.layers.0.dec_attn.layer_norm.weight');
  const clusters = await values('crit.cluster_weight');
  const tf = compatibility === 'tf-original';
  expect(norms.every((value) => value === 1)).toBe(tf);
  expect(clusters.every((value) => value === 0)).toBe(tf);
  if (!tf) {
    // 16 and 32 draws of deviation 0.5: their mean square is off by at most four of its own deviations.
    const meanSquare = (list: number[], mean: number) =>
      list.reduce((sum, x) => sum + (x - mean) ** 2, 0) / list.length;
    for (const [list, mean] of [
      [norms, 1],
      [clusters, 0],
    ] as const) {
      expect(Math.abs(meanSquare(list, mean) / 0.25 - 1)).toBeLessThan(4 * Math.sqrt(2 / list.length));
    }
  }
  expect((await values('transformer.layers.0.dec_attn.layer_norm.bias')).every((value) => value === 0)).toBe(true);
  const xlnet = new XLNetModel({ ...xlnetSmall, compatibility }, { device: 'cpu' });
  expect(xlnet.config.layerNormEps).toBe(1e-12);
  for (const [name, parameter] of xlnet.parameters()) {
    if (name.endsWith('layer_norm.weight'))
      expect([...(await parameter.data())].every((value) => value === 1)).toBe(true);
  }
});

test.each(all)(
  '%s: the memory of each layer is the last rows of what entered it, whatever the lengths',
  async (compatibility) => {
    const model = new TransformerXLModel({ ...small, sameLength: false, compatibility }, { seed: 6, device: 'cpu' });
    const random = new TestRandom(3);
    let mems: Tensor[] | 'empty' = 'empty';
    for (const length of [2, 1, 4, 7, 3]) {
      const out = noGrad(() =>
        model.forward({ inputIds: [[...random.integers(length, 0, 29)]], mems, outputHiddenStates: true }),
      );
      const before: Tensor[] | null = mems === 'empty' ? null : mems;
      const { layers } = out.mems!;
      expect(layers).toHaveLength(small.nLayer);
      for (const [layer, memory] of layers.entries()) {
        const rows = [...(before ? await before[layer]!.data() : []), ...(await out.hiddenStates![layer]!.data())];
        expect([...(await memory.data())]).toEqual(rows.slice(-small.memLen * small.dModel));
      }
      mems = [...layers];
    }
  },
);

test.each(all)('%s: an XLNet without memLen', (compatibility) => {
  for (const memLen of [null, 0]) {
    const model = new XLNetModel({ ...xlnetSmall, memLen, compatibility }, { device: 'cpu' });
    const { mems } = noGrad(() => model.forward({ inputIds: ids, outputAttentions: true }));
    expect(mems?.length ?? 0).toBe(compatibility === 'tf-original' ? 0 : 4);
    const next = noGrad(() => model.forward({ inputIds: ids, mems: mems ?? undefined, outputAttentions: true }));
    expect(next.attentions![0]!.shape[3]).toBe(compatibility === 'tf-original' ? 4 : 8);
  }
  const bounded = new XLNetModel({ ...xlnetSmall, memLen: 3, compatibility }, { device: 'cpu' });
  const first = noGrad(() => bounded.forward({ inputIds: ids, outputAttentions: true }));
  // Nothing before the first segment, whatever the preset.
  expect(first.attentions![0]!.shape[3]).toBe(4);
  expect(first.mems!.length).toBe(3);
});

test.each(all)('%s: a model with another head reads the preset too', (compatibility) => {
  const model = new TransformerXLForSequenceClassification(
    { ...small, sameLength: false, compatibility },
    { device: 'cpu' },
  );
  const { attentions } = noGrad(() => model.forward({ inputIds: ids, outputAttentions: true }));
  expect(attentions![0]!.shape[3]).toBe(compatibilityRules[compatibility].firstMemory === 'zeros' ? 9 : 4);
  expect(model.config).toEqual(transformerXLConfig({ ...small, sameLength: false, compatibility }));
});
