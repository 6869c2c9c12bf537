/** Each difference of docs/compatibility.md, against the code it was read from. */
import { TransformerXLLMHeadModel, TransformerXLModel, noGrad, type Compatibility } from '../../lib';
import { compatibilityRules } from '../../lib/models/compatibility';

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
    new TransformerXLLMHeadModel({ ...small, sameLength: false, compatibility }, { seed: 2, device: 'cpu' });
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
