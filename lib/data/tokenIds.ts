import { argumentError } from '../errors';

/**
 * Refuses what an int32 array would quietly turn into another id: 4294967297 would become 1, 1.5 too, NaN 0.
 * @param vocabSize ids lie below it. Default: those that an int32 holds
 * @throws XlformersError ERR_TOKEN_ID naming index and value
 */
export function requireTokenIds(name: string, ids: ArrayLike<number>, vocabSize = 2 ** 31): void {
  // Long texts come as bytes or 16-bit ids, which cannot be wrong.
  if ((ids instanceof Uint8Array || ids instanceof Uint16Array) && vocabSize >= 2 ** 16) return;
  for (let index = 0; index < ids.length; index += 1) {
    const id = ids[index];
    if (!(Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize)) {
      throw argumentError('ERR_TOKEN_ID', `${name}[${index}]`, id, `an id in [0, ${vocabSize})`);
    }
  }
}
