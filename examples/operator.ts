/** One operator by itself: relative attention as a building block of your own model (a Conformer, say), with its gradient. */
import { Generator, Tensor, fillRandom, relativeAttention, scope } from '../lib';

async function main(): Promise<void> {
  const [batch, length, heads, headDim] = [2, 100, 4, 64];
  const generator = new Generator(7);
  const random = (shape: number[]) => {
    const tensor = Tensor.zeros(shape, { device: 'cpu', requiresGrad: true });
    fillRandom(tensor, { kind: 'normal', a: 0, b: 1 }, generator);
    return tensor;
  };
  const query = random([batch, length, heads, headDim]);
  const key = random([batch, length, heads, headDim]);
  const value = random([batch, length, heads, headDim]);
  // One row per distance: here both directions are seen, distances -(length - 1) .. length - 1.
  const position = random([2 * length - 1, heads, headDim]);

  const output = scope(() =>
    relativeAttention({ query, key, value, position, firstDistance: -(length - 1), band: { upper: Infinity } }),
  );
  output.backward(Tensor.full(output.shape, 1 / output.size, { device: 'cpu' }));

  console.log(`output [${output.shape.join(', ')}], first values ${preview(await output.data())}`);
  console.log(`gradient of the query, first values ${preview(await query.grad!.data())}`);
}

function preview(values: ArrayLike<number>): string {
  return Array.from({ length: 3 }, (_, index) => values[index]!.toFixed(4)).join(', ');
}

void main();
