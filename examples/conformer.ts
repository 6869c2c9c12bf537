/** Self-attention of a Conformer over a padded batch of speech, with gradients: what the fused operators do for models that are not ours. */
import {
  Generator,
  Tensor,
  fillRandom,
  linear,
  noGrad,
  permutationAttention,
  relativeAttention,
  reshape,
  scope,
  sinusoidPositions,
  slice,
} from '../lib';

const [batch, frames, heads, headDim] = [2, 120, 4, 36];
const dModel = heads * headDim;
/** Of the recordings; the rest of each row is padding. */
const lengths = [120, 87];

const generator = new Generator(3);
function random(shape: number[], deviation: number): Tensor {
  const tensor = Tensor.zeros(shape, { device: 'cpu', requiresGrad: true });
  fillRandom(tensor, { kind: 'normal', a: 0, b: deviation }, generator);
  return tensor;
}

const weights = {
  query: random([dModel, dModel], dModel ** -0.5),
  key: random([dModel, dModel], dModel ** -0.5),
  value: random([dModel, dModel], dModel ** -0.5),
  /** linear_pos, pos_bias_u and pos_bias_v of ESPnet and NeMo. */
  position: random([dModel, dModel], dModel ** -0.5),
  contentBias: random([heads, headDim], 0.1),
  positionBias: random([heads, headDim], 0.1),
};

/** [rows, T, dModel] -> operands [rows, T, heads, headDim] and positions of distances -(T - 1) ... T - 1. */
function project(x: Tensor) {
  const [rows, length] = x.shape as [number, number];
  const split = (weight: Tensor) => reshape(linear(x, weight), [rows, length, heads, headDim]);
  const firstDistance = 1 - length;
  const table = sinusoidPositions({
    count: 2 * length - 1,
    columns: dModel,
    firstDistance,
    dtype: 'float32',
    device: x.device,
  });
  return {
    query: split(weights.query),
    key: split(weights.key),
    value: split(weights.value),
    position: reshape(linear(table, weights.position), [2 * length - 1, heads, headDim]),
    firstDistance,
    contentBias: weights.contentBias,
    positionBias: weights.positionBias,
  };
}

async function main(): Promise<void> {
  const x = random([batch, frames, dModel], 1);
  const padding = Uint8Array.from({ length: batch * frames }, (_, index) =>
    index % frames < (lengths[Math.floor(index / frames)] as number) ? 0 : 1,
  );
  const keyMask = Tensor.from(padding, [batch, frames], { device: 'cpu' });

  const output = scope(() => {
    const { query: content, ...operands } = project(x);
    return permutationAttention({ content, ...operands, keyMask }).content as Tensor;
  });
  output.backward(Tensor.full(output.shape, 1 / output.size, { device: 'cpu' }));

  // A recording by itself has no padding, and needs no mask.
  const [, length] = lengths as [number, number];
  const alone = noGrad(() =>
    scope(() => relativeAttention({ ...project(slice(slice(x, 0, 1, 2), 1, 0, length)), band: { upper: Infinity } })),
  );
  const together = noGrad(() => scope(() => slice(slice(output, 0, 1, 2), 1, 0, length)));
  const [expected, got] = [await alone.data(), await together.data()];
  const difference = Array.from(expected, (value, index) => Math.abs(value - got[index]!)).reduce((a, b) =>
    Math.max(a, b),
  );
  console.log(`output [${output.shape.join(', ')}]; padded and alone differ by at most ${difference.toExponential(1)}`);
  const gradient = await weights.position.grad!.data();
  console.log(`gradient of the position projection: norm ${Math.hypot(...gradient).toExponential(3)}`);
}

void main();
