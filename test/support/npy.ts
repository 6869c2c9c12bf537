/** Reads a `.npy` file of version 1.0 as NumPy's documentation describes it. */
export function parseNpy(bytes: Buffer): { shape: number[]; values: Float32Array } {
  expect(bytes.subarray(0, 8).toString('latin1')).toBe('\x93NUMPY\x01\x00');
  const start = 10 + bytes.readUInt16LE(8);
  expect(start % 64).toBe(0);
  const header = bytes.subarray(10, start).toString('latin1');
  const match = /^\{'descr': '<f4', 'fortran_order': False, 'shape': \((.*)\), \} *\n$/.exec(header);
  const shape = (match?.[1] ?? 'none').split(',').filter((size) => size.trim() !== '');
  const data = bytes.subarray(start);
  const values = Float32Array.from({ length: data.length / 4 }, (_, index) => data.readFloatLE(4 * index));
  return { shape: shape.map(Number), values };
}
