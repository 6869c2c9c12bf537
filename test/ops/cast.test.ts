/** Conversions between floating types: every 16-bit number, and every number at which rounding to one is decided. */
import { add, cast, scale, scope, Tensor, type FloatDType, type ShortFloatDType } from '../../lib';
import { codeOf } from '../support/errors';
import { emulated, leaf, onDevice, oddSizes, tensor } from '../support/operators';
import { TestRandom } from '../support/random';
import { numberOf, roundingCases, sameBits, shortTypes } from '../support/shortFloats';

/** A tensor of these bits. */
function ofBits(bits: Uint16Array, dtype: ShortFloatDType): Tensor {
  const result = Tensor.zeros([bits.length], { ...onDevice, dtype });
  result.overwrite(new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength));
  return result;
}

async function bitsOf(x: Tensor): Promise<number[]> {
  const bytes = await x.bytes();
  return Array.from(new Uint16Array(bytes.buffer), (bits) => sameBits(bits, x.dtype as ShortFloatDType));
}

const everything = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);

describe.each(shortTypes)('%s', (dtype) => {
  test('all numbers become the float32 and float64 that they are', async () => {
    const all = ofBits(everything, dtype);
    for (const wide of ['float32', 'float64'] as const) {
      const values = await cast(all, wide).data();
      expect(values.findIndex((value, bits) => !Object.is(value, numberOf(bits, dtype)))).toBe(-1);
    }
    expect(await bitsOf(cast(all, dtype))).toEqual(Array.from(everything, (bits) => sameBits(bits, dtype)));
  });

  test.each([
    ['float32', 32],
    ['float64', 64],
  ] as const)('%s is rounded once, to nearest, ties to even', async (wide, bits) => {
    const cases = roundingCases(dtype, bits).filter((_, index) => !emulated || index % 97 < 3);
    const values = cases.flatMap(({ value }) => [value, -value]);
    const rounded = await bitsOf(cast(tensor(values, [values.length], wide), dtype));
    const expected = cases.flatMap((each) => [each.bits, each.bits | 0x8000]);
    const wrong = rounded.findIndex((got, index) => got !== expected[index]);
    expect(wrong === -1 ? null : [values[wrong], rounded[wrong], expected[wrong]]).toBeNull();
  });

  test('all numbers survive float32 and float64 and back', async () => {
    const all = ofBits(everything, dtype);
    for (const wide of ['float32', 'float64'] as const) {
      expect(await bitsOf(cast(cast(all, wide), dtype))).toEqual(
        Array.from(everything, (bits) => sameBits(bits, dtype)),
      );
    }
  });

  test('what is no finite number', async () => {
    const values = [NaN, Infinity, -Infinity, 3e38, -3e38, 0, -0, 2 ** -160, -(2 ** -160)];
    const given = tensor(values, [values.length], 'float64');
    const large = dtype === 'float16' ? Infinity : numberOf(0x7f62, 'bfloat16');
    expect([...(await cast(given, dtype).data())]).toEqual([NaN, Infinity, -Infinity, large, -large, 0, -0, 0, -0]);
    const beyond = await cast(tensor([1e300, -1e300], [2], 'float64'), dtype).data();
    expect([...beyond]).toEqual([Infinity, -Infinity]);
  });
});

test('from one 16-bit type to the other', async () => {
  const all = ofBits(everything, 'bfloat16');
  const values = await cast(all, 'float16').data();
  const singly = await cast(cast(all, 'float32'), 'float16').data();
  expect(values.findIndex((value, index) => !Object.is(value, singly[index]))).toBe(-1);
  const back = await cast(ofBits(everything, 'float16'), 'bfloat16').data();
  const expected = await cast(cast(ofBits(everything, 'float16'), 'float32'), 'bfloat16').data();
  expect(back.findIndex((value, index) => !Object.is(value, expected[index]))).toBe(-1);
});

test('float64 becomes the nearest float32', async () => {
  const values = new TestRandom(1).normals(301);
  const rounded = await cast(tensor(values, [7, 43]), 'float32').data();
  expect([...rounded]).toEqual([...Float32Array.from(values)]);
});

test('sizes of any kind, none among them', async () => {
  for (const size of [0, ...oddSizes]) {
    const values = Float32Array.from({ length: size }, (_, index) => index - 3);
    const result = await cast(Tensor.from(values, [size], onDevice), 'bfloat16').data();
    expect(result).toBeInstanceOf(Float32Array);
    expect([...result]).toEqual([...values]);
  }
  expect(cast(Tensor.from(1, undefined, onDevice), 'float16').shape).toEqual([]);
});

test('the gradient is cast back, and sums over uses in the type of the leaf', async () => {
  const x = leaf([1, 2, 3], [3], 'float32');
  // Each gradient is a bfloat16; their sum is none.
  const [first, second] = [1, 1 / 512].map((value) => tensor([value, value, -value], [3], 'bfloat16')) as [
    Tensor,
    Tensor,
  ];
  for (const gradient of [first, second]) scope(() => cast(x, 'bfloat16').backward(gradient));
  expect([...(await x.grad!.data())]).toEqual([1 + 1 / 512, 1 + 1 / 512, -1 - 1 / 512]);
});

test('the gradient passes in both directions', async () => {
  const x = leaf([1, 2, 3], [3], 'float16');
  const doubled = scope(() => scale(cast(x, 'float32'), 2));
  doubled.backward(tensor([1, 2, 1 + 2 ** -11], [3], 'float32'));
  // 2 + 2^-10 is a tie of float16.
  expect(x.grad!.dtype).toBe('float16');
  expect([...(await x.grad!.data())]).toEqual([2, 4, 2]);
});

test('accumulates into a 16-bit leaf too', async () => {
  const x = leaf([1, 2], [2], 'float16');
  scope(() => add(cast(x, 'float32'), cast(x, 'float32'))).backward(tensor([1, 3], [2], 'float32'));
  expect([...(await x.grad!.data())]).toEqual([2, 6]);
});

test('refuses what is no floating type', async () => {
  const x = tensor([1], [1]);
  for (const dtype of ['int32', 'uint8', 'half', '', null, undefined, 5]) {
    expect(await codeOf(() => cast(x, dtype as FloatDType))).toBe('ERR_ARG_TYPE');
  }
  expect(await codeOf(() => cast(Tensor.from(Int32Array.of(1), [1], onDevice), 'float32'))).toBe('ERR_ARG_TYPE');
  expect(await codeOf(() => cast(null as never, 'float32'))).toBe('ERR_ARG_TYPE');
});
