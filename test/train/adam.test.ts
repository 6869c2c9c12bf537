import { Parameter, Tensor } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { Adam, type AdamSettings } from '../../lib/train/adam';
import { layerRateShares } from '../../lib/train/layerDecay';

const settings: AdamSettings = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  decoupled: true,
  clipNorm: 0,
};

/** Each weight's factor after a step of AdamW without gradients: 1 - rate share x learning rate x decay. */
async function factors(
  shapes: Record<string, number[]>,
  changes: Partial<AdamSettings>,
): Promise<Record<string, number>> {
  const device = resolveDevice('cpu');
  const parameters = new Map(
    Object.entries(shapes).map(([name, shape]) => {
      const parameter = Parameter.create(name, shape, 'float64', device);
      parameter.overwrite(new Float64Array(parameter.size).fill(1));
      parameter.grad = Tensor.zeros(shape, { dtype: 'float64', device });
      return [name, parameter];
    }),
  );
  const optimizer = new Adam(parameters, { ...settings, ...changes });
  optimizer.step(1, 0.5).dispose();
  const result: Record<string, number> = {};
  for (const [name, parameter] of parameters) {
    const values = await parameter.data();
    expect(new Set(values).size).toBe(1);
    result[name] = values[0]!;
  }
  optimizer.zeroGrad();
  optimizer.dispose();
  for (const parameter of parameters.values()) parameter.dispose();
  return result;
}

const xlnetShapes = {
  'transformer.word_embedding.weight': [5, 4],
  'transformer.mask_emb': [1, 1, 4],
  'transformer.layer.0.rel_attn.q': [4, 2, 2],
  'transformer.layer.0.rel_attn.r_w_bias': [2, 2],
  'transformer.layer.0.rel_attn.layer_norm.weight': [4],
  'transformer.layer.0.rel_attn.layer_norm.bias': [4],
  'transformer.layer.0.ff.layer_1.bias': [4],
  'lm_loss.bias': [5],
};

test('biases and layer norms do not decay; the biases of attention do, as in the original', async () => {
  const found = await factors(xlnetShapes, {});
  const undecayed = Object.keys(found).filter((name) => found[name] === 1);
  expect(undecayed).toEqual([
    'transformer.layer.0.rel_attn.layer_norm.weight',
    'transformer.layer.0.rel_attn.layer_norm.bias',
    'transformer.layer.0.ff.layer_1.bias',
    'lm_loss.bias',
  ]);
  for (const name of Object.keys(found)) if (!undecayed.includes(name)) expect(found[name]).toBe(1 - 0.5 * 0.1);
});

test("decayed 'all': everything, as torch.optim without groups", async () => {
  expect(new Set(Object.values(await factors(xlnetShapes, { decayed: 'all' })))).toEqual(new Set([1 - 0.5 * 0.1]));
});

test('a share of the rate scales the step of its weights alone', async () => {
  const rateShare = (name: string) => (name === 'a' ? 0.25 : 1);
  expect(await factors({ a: [2, 2], b: [2, 2], c: [1, 3] }, { rateShare })).toEqual({
    a: 1 - 0.25 * 0.5 * 0.1,
    b: 1 - 0.5 * 0.1,
    c: 1 - 0.5 * 0.1,
  });
});

test.each(['layer', 'layers'])(
  'the rate falls from the last of the %s to the first, not for what is outside',
  (word) => {
    const names = [
      'transformer.word_embedding.weight',
      ...[0, 1, 2, 11].map((layer) => `transformer.${word}.${layer}.ff.weight`),
      'logits_proj.weight',
    ];
    const share = layerRateShares(names, 0.5);
    expect(names.map(share)).toEqual([1, 0.5 ** 11, 0.5 ** 10, 0.5 ** 9, 1, 1]);
    expect(names.map(layerRateShares(names, 1))).toEqual([1, 1, 1, 1, 1, 1]);
  },
);
