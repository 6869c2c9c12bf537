import { type Device, Tensor, fillRandom, Generator, linear } from '../../lib';

const size = 1536;
let measured: number | null = null;

/**
 * The machine's practical rate of float32 multiply-adds, in floating-point operations per second: the best of several large matrix
 * products. Shares of the limit refer to it.
 */
export async function multiplyAddPeak(device: Device): Promise<number> {
  if (measured !== null) return measured;
  const generator = new Generator(1);
  const [x, weight] = [Tensor.zeros([size, size], { device }), Tensor.zeros([size, size], { device })];
  for (const tensor of [x, weight]) fillRandom(tensor, { kind: 'normal', a: 0, b: 1 }, generator);
  let best = Infinity;
  for (let round = 0; round < 8; round += 1) {
    await device.synchronize();
    const started = performance.now();
    const product = linear(x, weight);
    await device.synchronize();
    best = Math.min(best, performance.now() - started);
    product.dispose();
  }
  x.dispose();
  weight.dispose();
  measured = (2 * size ** 3) / (best / 1000);
  return measured;
}
