import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openSafetensors } from '../../lib';

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
