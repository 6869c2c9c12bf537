/** Tensors of 16-bit floats on the CPU: stored, cast, copied; whatever would compute with them refuses at the call. */
import { cast, concatenate, memoryUpdate, permute, slice, Tensor } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { toShortFloat } from '../../lib/dtype';
import { codeOf } from '../support/errors';
import { cpu, leaf, product } from '../support/operators';
import { operatorCases } from '../support/operatorCases';
import { numberOf, roundingCases, sameBits, shortTypes } from '../support/shortFloats';

describe.each(shortTypes)('%s', (dtype) => {
  const options = { ...cpu, dtype };

  test.each([32, 64] as const)('numbers are rounded once, to nearest, ties to even (from %s bits)', (source) => {
    const cases = roundingCases(dtype, source);
    const values = cases.flatMap(({ value }) => [value, -value]);
    const bits = toShortFloat(source === 32 ? Float32Array.from(values) : values, dtype);
    const wrong = bits.findIndex((got, index) => got !== (cases[index >> 1]!.bits | (index & 1 ? 0x8000 : 0)));
    expect(wrong === -1 ? null : [values[wrong], bits[wrong]]).toBeNull();
  });

  test('all 65536 values are read as what they are, and written as they were', async () => {
    const bits = Uint16Array.from({ length: 65_536 }, (_, index) => index);
    const stored = Tensor.zeros([65_536], options);
    stored.overwrite(new Uint8Array(bits.buffer));
    const values = await stored.data();
    expect(values).toBeInstanceOf(Float32Array);
    expect(values.findIndex((value, index) => !Object.is(value, numberOf(index, dtype)))).toBe(-1);
    const again = new Uint16Array((await Tensor.from(values, [65_536], options).bytes()).buffer);
    expect(again.findIndex((got, index) => sameBits(got, dtype) !== sameBits(index, dtype))).toBe(-1);
  });

  test('made from any numbers', async () => {
    for (const data of [[1, 2.5, -3], Float64Array.of(1, 2.5, -3), Float32Array.of(1, 2.5, -3)]) {
      const made = Tensor.from(data, [3], options);
      expect(made.dtype).toBe(dtype);
      expect([...(await made.data())]).toEqual([1, 2.5, -3]);
    }
    expect([...(await Tensor.from([[1n], [7n]], undefined, options).data())]).toEqual([1, 7]);
    expect([...(await Tensor.from(BigInt64Array.of(1n, 7n), undefined, options).data())]).toEqual([1, 7]);
    expect([...(await Tensor.from(Int32Array.of(1, 257), undefined, options).data())]).toEqual([
      1,
      dtype === 'float16' ? 257 : 256,
    ]);
    expect([...(await Tensor.from([1e6, -1e39, NaN], undefined, options).data())]).toEqual(
      dtype === 'float16' ? [Infinity, -Infinity, NaN] : [999424, -Infinity, NaN],
    );
    // Above the tie 1 + 2^-8 (2^-11) by what float32 does not hold.
    const ulp = dtype === 'float16' ? 2 ** -10 : 2 ** -7;
    expect([...(await Tensor.from([1 + ulp / 2 + 2 ** -40], undefined, options).data())]).toEqual([1 + ulp]);
    expect([...(await Tensor.full([2], 1 + ulp / 2 + 2 ** -40, options).data())]).toEqual([1 + ulp, 1 + ulp]);
    expect(await Tensor.full([], 0.1, options).item()).toBe(numberOf(toShortFloat([0.1], dtype)[0]!, dtype));
  });

  test('overwritten by float32 or by bytes; nothing else', async () => {
    const stored = Tensor.zeros([2], options);
    stored.overwrite(Float32Array.of(1, 1 / 3));
    expect([...(await stored.data())]).toEqual([1, numberOf(toShortFloat([1 / 3], dtype)[0]!, dtype)]);
    stored.overwrite(Uint8Array.of(0, 0, 0, 0x80));
    expect([...(await stored.data())]).toEqual([0, -0]);
    for (const data of [Float64Array.of(1, 2), Float32Array.of(1), new Uint16Array(2), Uint8Array.of(1, 2), [1, 2]]) {
      expect(await codeOf(() => stored.overwrite(data as never))).toBe('ERR_ARG_DATA');
    }
  });

  test('copied in other orders and parts', async () => {
    const x = Tensor.from(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      undefined,
      options,
    );
    expect([...(await permute(x, [1, 0]).data())]).toEqual([1, 4, 2, 5, 3, 6]);
    expect([...(await slice(x, 1, 1, 3).data())]).toEqual([2, 3, 5, 6]);
    expect([...(await concatenate([x, x], 1).data())]).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
    const rows = x.alias([1, 2, 3]);
    expect([...(await memoryUpdate(rows, rows, 3).data())]).toEqual([4, 5, 6, 1, 2, 3, 4, 5, 6]);
  });

  const copies = ['cast', 'reshape and permute', 'slice', 'concatenate', 'memoryUpdate'];

  test.each(operatorCases.map((each) => [each.name, each] as const))('%s', async (name, each) => {
    const inputs = each.shapes.map((shape) => leaf(new Float64Array(product(shape)), shape, dtype));
    const run = async () => {
      each.run(inputs, dtype);
      await resolveDevice('cpu').synchronize();
    };
    if (copies.includes(name)) {
      await run();
      return;
    }
    // Synchronously: nothing of it reaches the queue.
    expect(() => each.run(inputs, dtype)).toThrow(/on device cpu, .* cast it to float32, or use a CUDA device$/);
    expect(await codeOf(run)).toBe('ERR_UNSUPPORTED');
    await resolveDevice('cpu').synchronize();
  });

  test('memory is that of 16 bits', async () => {
    const device = resolveDevice('cpu');
    const before = device.memory().liveBytes;
    const x = Tensor.zeros([1024, 1024], options);
    expect(device.memory().liveBytes - before).toBe(2 ** 21);
    x.dispose();
    const wide = cast(Tensor.zeros([4], options), 'float32');
    expect(await wide.data()).toEqual(new Float32Array(4));
  });
});
