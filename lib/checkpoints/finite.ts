import { type DType, type StoredArray, valuesOf } from '../dtype';
import { XlformersError } from '../errors';

/** @throws XlformersError ERR_NOT_FINITE naming the tensor and what it holds */
export function requireFinite(file: string, name: string, stored: StoredArray, dtype: DType): void {
  const values = valuesOf(stored, dtype);
  for (let index = 0; index < values.length; index += 1) {
    if (!Number.isFinite(values[index])) {
      throw new XlformersError(
        'ERR_NOT_FINITE',
        `${file}: tensor '${name}' holds ${values[index]}, expected finite numbers`,
      );
    }
  }
}
