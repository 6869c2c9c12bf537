import { noGrad, scope, Tensor, type FloatDType } from '../../lib';
import { TestRandom } from './random';

/** Sizes that find mistakes: 1, odd ones, one below and above a vector or a tile. */
export const oddSizes = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 41, 64, 65] as const;

/** Where operators are tested: the CPU, or another backend for which the same tests run again (test/cuda). */
export const device = process.env.XLFORMERS_TEST_DEVICE ?? 'cpu';

/** The emulator is slow: what takes large sizes to show is shown on the CPU. */
export const emulated = process.env.XLFORMERS_CUDA_PLUGIN?.includes('build-emulator') ?? false;

export const onDevice = { device };

export const cpu = { device: 'cpu' } as const;

export function tensor(values: ArrayLike<number>, shape: readonly number[], dtype: FloatDType = 'float64'): Tensor {
  return Tensor.from(Float64Array.from(values), shape, { ...onDevice, dtype });
}

export function leaf(values: ArrayLike<number>, shape: readonly number[], dtype: FloatDType = 'float64'): Tensor {
  return Tensor.from(Float64Array.from(values), shape, { ...onDevice, dtype, requiresGrad: true });
}

export function ids(values: ArrayLike<number>, shape: readonly number[] = [values.length]): Tensor {
  return Tensor.from(Int32Array.from(values), shape, onDevice);
}

/** Sizes multiplied. */
export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/**
 * Fails unless |actual - expected| <= tolerance * max(1, largest |expected|) everywhere; the message names the worst element.
 * Tolerances come from arithmetic: units of the type's epsilon times the length of the longest sum.
 */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what = 'result',
): void {
  expect(actual.length).toBe(expected.length);
  let scale = 1;
  for (let index = 0; index < expected.length; index += 1) scale = Math.max(scale, Math.abs(expected[index] as number));
  let worst = 0;
  let where = 0;
  for (let index = 0; index < expected.length; index += 1) {
    const difference = Math.abs((actual[index] as number) - (expected[index] as number));
    if (!(difference <= worst)) {
      worst = difference;
      where = index;
      if (Number.isNaN(difference)) break;
    }
  }
  if (!(worst <= tolerance * scale)) {
    throw new Error(
      `${what}[${where}]: got ${actual[where]}, expected ${expected[where]}; off by ${worst}, allowed ${tolerance * scale}`,
    );
  }
}

export const epsilon: Record<FloatDType, number> = {
  float32: 2 ** -23,
  float64: 2 ** -52,
  bfloat16: 2 ** -7,
  float16: 2 ** -10,
};

/** An input of a gradient check. */
export interface Operand {
  shape: readonly number[];
  values: Float64Array;
}

export function operand(random: TestRandom, shape: readonly number[], scale = 1): Operand {
  return { shape, values: random.normals(product(shape), scale) };
}

/**
 * Compares the tape's gradients of sum(weights * operator(inputs)) with central differences, in double precision. Some elements of
 * each input are drawn; the step 1e-5 balances truncation (1e-10) and rounding (1e-11), so 1e-6 relative is generous but safe.
 */
export async function checkGradients(
  random: TestRandom,
  operator: (inputs: Tensor[]) => Tensor,
  operands: readonly Operand[],
  samples = 6,
): Promise<void> {
  const inputs = operands.map(({ values, shape }) => leaf(values, shape));
  const output = scope(() => operator(inputs));
  const weights = random.normals(output.size);
  output.backward(tensor(weights, output.shape));
  const gradients = await Promise.all(
    inputs.map(async ({ grad, shape }) => (grad ? grad.data() : new Float64Array(product(shape)))),
  );
  output.dispose();
  for (const [index, { values, shape }] of operands.entries()) {
    for (let sample = 0; sample < Math.min(samples, values.length); sample += 1) {
      const element = values.length <= samples ? sample : random.integer(0, values.length - 1);
      const evaluate = async (delta: number): Promise<number> => {
        const shifted = Float64Array.from(values);
        shifted[element] = (shifted[element] as number) + delta;
        const result = noGrad(() =>
          scope(() => operator(inputs.map((input, other) => (other === index ? tensor(shifted, shape) : input)))),
        );
        const data = await result.data();
        result.dispose();
        let sum = 0;
        for (let i = 0; i < data.length; i += 1) sum += (data[i] as number) * (weights[i] as number);
        return sum;
      };
      const step = 1e-5;
      const numeric = ((await evaluate(step)) - (await evaluate(-step))) / (2 * step);
      const analytic = (gradients[index] as ArrayLike<number>)[element] as number;
      const scale = Math.max(1, Math.abs(numeric));
      if (!(Math.abs(numeric - analytic) <= 1e-6 * scale)) {
        throw new Error(
          `gradient of input ${index}, element ${element} of [${shape.join(', ')}]: got ${analytic}, finite differences give ${numeric}`,
        );
      }
    }
  }
  for (const input of inputs) {
    input.grad?.dispose();
    input.dispose();
  }
}
