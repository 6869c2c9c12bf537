import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type FloatDType, openSafetensors, type ShortFloatDType } from '../../lib';
import { device, epsilon } from './operators';
import { shortTypes } from './shortFloats';

const root = path.join(__dirname, '..', 'fixtures');

export function fixturePath(...parts: string[]): string {
  return path.join(root, ...parts);
}

export interface GoldenTensor {
  shape: readonly number[];
  values: ArrayLike<number> & Iterable<number>;
}

/** All tensors of golden.safetensors; integers become numbers. */
export async function readGolden(folder: string): Promise<Map<string, GoldenTensor>> {
  const file = await openSafetensors(path.join(folder, 'golden.safetensors'));
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const { buffer } = await file.read(name);
    const values = dtype === 'I64' ? Float64Array.from(new BigInt64Array(buffer), Number) : new Float32Array(buffer);
    tensors.set(name, { shape, values });
  }
  await file.close();
  return tensors;
}

export function readJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(path.join(...parts), 'utf8')) as T;
}

/** How a model is held to the numbers of Hugging Face, which are float32. */
export interface Agreement {
  precision: FloatDType;
  /** Of weights and inputs. */
  dtype: 'float32' | 'float64';
  output(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void;
  /** @param largest of all gradients of the model, where some are zero but for rounding: sums of terms as large as the others; else 0 */
  gradient(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, largest: number): void;
}

const exactly: Omit<Agreement, 'precision' | 'dtype'> = {
  output: (name, actual, expected) => {
    const tolerance = name.endsWith('loss') ? 1e-5 : 1e-4;
    expectEach(name, actual, expected, (wanted) => tolerance * (1 + Math.abs(wanted)));
  },
  gradient: (name, actual, expected, largest) => {
    const tolerance = 1e-3 * largestOf(expected) + 16 * epsilon.float32 * largest;
    expectEach(name, actual, expected, () => tolerance);
  },
};

/**
 * In 16 bits, by Euclidean norms, in which errors of random sign add up. An output is behind some 64 tensors that were rounded: weights,
 * and what two layers store, so that it is off by 8 roundings; twice that, as attention's scores are larger than 1 and go into an
 * exponential. ReLU's derivative jumps: of the units, a share as large as that error lies so near zero that it has the other derivative,
 * and the error of a gradient is the root of the share.
 */
function inShortType(dtype: ShortFloatDType): Omit<Agreement, 'precision' | 'dtype'> {
  const error = (16 * epsilon[dtype]) / 2;
  return {
    output: (name, actual, expected) => expectNorm(name, actual, expected, error * normOf(expected)),
    gradient: (name, actual, expected, largest) => {
      const noise = error * largest * Math.sqrt(expected.length);
      expectNorm(name, actual, expected, (error + Math.sqrt(error)) * normOf(expected) + noise);
    },
  };
}

/** Every type that the device computes in; 16 bits as mixed precision. */
export const agreements: readonly Agreement[] = [
  { precision: 'float32', dtype: 'float32', ...exactly },
  { precision: 'float64', dtype: 'float64', ...exactly },
  ...(device === 'cpu' ? [] : shortTypes).map((precision) => ({
    precision,
    dtype: 'float32' as const,
    ...inShortType(precision),
  })),
];

export function largestOf(values: ArrayLike<number>): number {
  return Array.from(values).reduce((top, value) => Math.max(top, Math.abs(value)), 0);
}

function normOf(values: ArrayLike<number>): number {
  return Math.sqrt(Array.from(values).reduce((sum, value) => sum + value ** 2, 0));
}

function expectEach(
  name: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  toleranceOf: (expected: number) => number,
): void {
  expect([name, actual.length]).toEqual([name, expected.length]);
  for (let index = 0; index < expected.length; index += 1) {
    const [a, e] = [actual[index]!, expected[index]!];
    if (!(Math.abs(a - e) <= toleranceOf(e))) throw new Error(`${name}[${index}]: got ${a}, expected ${e}`);
  }
}

function expectNorm(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect([name, actual.length]).toEqual([name, expected.length]);
  const difference = normOf(Array.from(expected, (value, index) => value - actual[index]!));
  if (!(difference <= tolerance)) throw new Error(`${name}: off by ${difference}, allowed ${tolerance}`);
}
