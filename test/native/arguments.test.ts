import { operatorNames } from '../../lib/nativeOperators';
import { operatorCalls } from './support/operatorCalls';
import { call, codeOf, type Options, Workbench } from './support/workbench';
import { leafPaths, type Path, valueAt, withValue } from './support/paths';

const bench = new Workbench();
afterAll(() => bench.releaseAll());

const realNumbers = new Set([
  ...['value', 'alpha', 'beta', 'a', 'b', 'scale', 'probability', 'epsilon', 'dropout', 'learningRate', 'beta1', 'beta2'],
  ...['weightDecay', 'maxNorm', 'temperature', 'topP'],
]);
/** Any number is right for these. */
const unlimited = new Set(['value', 'alpha', 'beta', 'maxNorm']);
const signed = new Set(['firstDistance', 'bandUpper', 'bandLower']);
/** Integers that no buffer size limits. */
const free = new Set(['seed', 'offset', 'step', 'clamp', 'period', 'bandUpper', 'bandLower', 'bandSegment', 'firstDistance']);

const notNumbers: unknown[] = ['5', 5n, null, undefined, {}, [], [5], Symbol('5'), { valueOf: () => 5 }, true, () => 5];

function leaves(options: Options, type: string): [string, Path][] {
  return leafPaths(options)
    .filter((path) => typeof valueAt(options, path) === type)
    .map((path) => [String(path.at(-1)), path]);
}

describe.each(operatorNames)('%s', (name) => {
  const options = operatorCalls[name](bench);
  const codeWith = (path: Path, value: unknown) => codeOf(() => call(name, withValue(options, path, value)));

  test('accepts the right call', () => expect(codeOf(() => call(name, options))).toBeNull());

  test('refuses options that are no object', () => {
    for (const given of [undefined, null, 5, 'x', () => options]) expect(codeOf(() => call(name, given))).toBe('ERR_ARG_TYPE');
  });

  test('refuses what is no number where a number is due', () => {
    for (const [, path] of leaves(options, 'number')) {
      for (const value of notNumbers) expect([path, codeWith(path, value)]).toEqual([path, 'ERR_ARG_TYPE']);
    }
  });

  test('never truncates to an integer', () => {
    for (const [field, path] of leaves(options, 'number')) {
      if (realNumbers.has(field)) continue;
      for (const value of [NaN, Infinity, -Infinity, 0.5, 2.5, 1e300, -1e300, 2 ** 53, 2 ** 64]) {
        expect([path, value, codeWith(path, value)]).toEqual([path, value, 'ERR_ARG_RANGE']);
      }
      if (!signed.has(field)) expect([path, codeWith(path, -1)]).toEqual([path, 'ERR_ARG_RANGE']);
    }
  });

  test('refuses sizes beyond the buffers, also those that wrap around', () => {
    for (const [field, path] of leaves(options, 'number')) {
      if (realNumbers.has(field) || free.has(field) || /stride$/i.test(field)) continue;
      const right = valueAt(options, path) as number;
      for (const value of [2 ** 31, 2 ** 32, 2 ** 32 + right, 2 ** 40, 2 ** 52, 2 ** 53 - 1]) {
        expect([path, value, codeWith(path, value)]).toEqual([path, value, expect.stringMatching(/^ERR_ARG_(RANGE|SHAPE)$/)]);
      }
    }
  });

  test('refuses real numbers that are not finite or out of range', () => {
    for (const [field, path] of leaves(options, 'number')) {
      if (!realNumbers.has(field)) continue;
      for (const value of [NaN, Infinity, -Infinity]) {
        expect([path, value, codeWith(path, value)]).toEqual([path, value, unlimited.has(field) ? null : 'ERR_ARG_RANGE']);
      }
      if (['probability', 'dropout', 'beta1', 'beta2'].includes(field)) {
        for (const value of [1, -0.1, 7]) expect([path, codeWith(path, value)]).toEqual([path, 'ERR_ARG_RANGE']);
      }
    }
  });

  test('refuses what is neither true nor false', () => {
    for (const [, path] of leaves(options, 'boolean')) {
      for (const value of [0, 1, 'true', null, undefined, {}]) {
        expect([path, codeWith(path, value)]).toEqual([path, 'ERR_ARG_TYPE']);
      }
    }
  });

  test('refuses unknown names', () => {
    for (const [, path] of leaves(options, 'string')) {
      for (const value of ['', 'F32', 'float32', 'f32\0', 'x'.repeat(1000), '__proto__', '\ud800']) {
        expect([path, value, codeWith(path, value)]).toEqual([path, value, 'ERR_ARG_RANGE']);
      }
      for (const value of [0, null, undefined, {}, Symbol('f32')]) {
        expect([path, codeWith(path, value)]).toEqual([path, 'ERR_ARG_TYPE']);
      }
    }
  });

  test('refuses buffers that are one element short', () => {
    const small = bench.bytes(3);
    for (const [field, path] of leaves(options, 'object')) {
      if (valueAt(options, path) === null) continue;
      expect([field, codeWith(path, small)]).toEqual([field, 'ERR_ARG_SHAPE']);
    }
  });
});

test('messages name the operator, the argument, what was given and what was expected', () => {
  const options = operatorCalls.adam(bench);
  expect(() => call('adam', withValue(options, ['tensors', 1, 'count'], 0.5))).toThrow(
    "adam: argument 'tensors[1].count': got 0.5, expected an integer in [0, 9007199254740991]",
  );
  expect(() => call('adam', withValue(options, ['tensors', 1], 7))).toThrow("adam: argument 'tensors[1]': got 7, expected an object");
  expect(() => call('fill', { dtype: 'int', count: 1 })).toThrow(
    "fill: argument 'dtype': got 'int', expected one of 'f32', 'f64', 'bf16', 'f16', 'i32', 'u8'",
  );
});

test('fill refuses values that the type cannot hold', () => {
  const out = bench.bytes(8);
  for (const [dtype, value] of [
    ['i32', 2 ** 31],
    ['i32', NaN],
    ['i32', 0.5],
    ['u8', 2.5],
    ['u8', -1],
    ['u8', 256],
    ['u8', Infinity],
  ]) {
    expect(codeOf(() => call('fill', { dtype, count: 2, value, out }))).toBe('ERR_ARG_RANGE');
  }
});

test('arrays: wrong lengths, holes, array-likes, proxies', () => {
  const options = operatorCalls.permute(bench);
  for (const order of [[], [0, 1, 2], [0, 1, 2, 3, 3]]) {
    expect(codeOf(() => call('permute', { ...options, order }))).toBe('ERR_ARG_SHAPE');
  }
  const sparse = [0, 1, 2, 3];
  delete sparse[2];
  for (const order of [sparse, { 0: 0, length: 4 }, 'abcd', new Uint8Array(4), new Proxy([0, 1, 2, 3], {})]) {
    expect(codeOf(() => call('permute', { ...options, order }))).toBe('ERR_ARG_TYPE');
  }
  for (const order of [[0, 0, 1, 2], [0, 1, 2, 4]]) expect(codeOf(() => call('permute', { ...options, order }))).toBe('ERR_ARG_RANGE');
  const { tensors } = operatorCalls.globalNorm(bench) as { tensors: object[] };
  for (const list of [[], new Array(3)]) {
    expect(codeOf(() => call('globalNorm', { dtype: 'f32', maxNorm: 1, scale: 1, out: bench.floats(3), tensors: list }))).not.toBeNull();
  }
  expect(codeOf(() => call('globalNorm', { dtype: 'f32', maxNorm: 1, scale: 1, out: bench.floats(3), tensors }))).toBeNull();
});

test('exceptions of getters go through as they are', () => {
  const mine = new RangeError('mine');
  const options = Object.defineProperty({ ...operatorCalls.fill(bench) }, 'count', {
    get: () => {
      throw mine;
    },
  });
  expect(() => call('fill', options)).toThrow(mine);
});
