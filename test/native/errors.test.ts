import { argumentError, describe as words, errorCodes, XlformersError } from '../../lib/errors';

test('an error has a name, a code and a message', () => {
  const error = argumentError('ERR_ARG_RANGE', 'topP', 1.5, 'a number in (0, 1]');
  expect(error).toBeInstanceOf(XlformersError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: 'XlformersError', code: 'ERR_ARG_RANGE', message: 'topP: got 1.5, expected a number in (0, 1]' });
  expect(new XlformersError('ERR_FILE_READ', 'x', { cause: error }).cause).toBe(error);
});

test('codes start with ERR_ and have a meaning', () => {
  for (const [code, meaning] of Object.entries(errorCodes)) {
    expect(code).toMatch(/^ERR_[A-Z0-9_]+$/);
    expect(meaning).not.toBe('');
  }
});

class Model {}

test.each([
  ['text', "'text'"],
  ['x'.repeat(100), `'${'x'.repeat(60)}…' (100 characters)`],
  [5n, '5n'],
  [-0, '-0'],
  [NaN, 'NaN'],
  [undefined, 'undefined'],
  [null, 'null'],
  [true, 'true'],
  [Symbol('secret'), 'a symbol'],
  [() => 1, 'a function'],
  [[1, 2], 'an array of length 2'],
  [{}, 'an object'],
  [Object.create(null), 'an object'],
  [new Model(), 'an object of class Model'],
  [new Float32Array(6), 'Float32Array(6)'],
  [Buffer.alloc(3), 'Uint8Array(3)'],
  [new DataView(new ArrayBuffer(2)), 'a DataView'],
])('%p in words', (value, expected) => expect(words(value)).toBe(expected));

test('describing a hostile object runs none of its code', () => {
  const refuse = () => {
    throw new Error('ran');
  };
  expect(words(new Proxy({}, { get: refuse, getPrototypeOf: refuse, getOwnPropertyDescriptor: refuse }))).toBe('an object');
  expect(words(Object.defineProperty({}, 'constructor', { get: refuse }))).toBe('an object');
});
