/** NumPy's file for one array: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import { writeAtomically } from './atomicFile';
import { XlformersError } from '../errors';

/**
 * Writes float32 values as a `.npy` file of version 1.0, at once or not at all.
 * @param shape of the whole array, row-major
 * @param parts its values in order, cut anywhere; they are written as they come
 * @throws XlformersError ERR_ARG_SHAPE when there are more or fewer values than the shape says, ERR_FILE_WRITE
 */
export async function writeNpy(
  file: string,
  shape: readonly number[],
  parts: AsyncIterable<Float32Array> | Iterable<Float32Array>,
): Promise<void> {
  const expected = shape.reduce((product, size) => product * size, 1);
  await writeAtomically(file, async (handle) => {
    await handle.writeFile(npyHeader(shape));
    let count = 0;
    for await (const part of parts) {
      count += part.length;
      if (count <= expected) await handle.writeFile(littleEndian(part));
    }
    if (count !== expected) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `${file}: got ${count} values, expected ${expected} for shape [${shape.join(', ')}]`,
      );
    }
  });
}

/** Magic, version, length of the text, and a Python dictionary that ends on a multiple of 64 bytes. */
function npyHeader(shape: readonly number[]): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = Buffer.alloc(10 + length, ' ');
  header.write('\x93NUMPY\x01\x00', 'latin1');
  header.writeUInt16LE(length, 8);
  header.write(text, 10, 'latin1');
  header.write('\n', 10 + length - 1, 'latin1');
  return header;
}

/** Typed arrays are in the byte order of the machine, which is little-endian wherever this library runs. */
function littleEndian(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
