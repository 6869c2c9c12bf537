import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XlformersError, openSafetensors, writeSafetensors } from '../../lib';
import { toFloat32 } from '../../lib/checkpoints/safetensors';
import { TestRandom } from '../support/random';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-safetensors-'));
const file = path.join(scratch, 'file.safetensors');
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function build(header: string | Buffer, data = Buffer.alloc(0), length?: bigint): Buffer {
  const json = Buffer.from(header);
  const first = Buffer.alloc(8);
  first.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([first, json, data]);
}

const f32 = (shape: string, offsets: string, dtype = '"F32"') =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`;
const one = (shape: string, offsets: string, dtype?: string) => `{"a":${f32(shape, offsets, dtype)}}`;
const eight = Buffer.alloc(8);

const rows: [what: string, bytes: Buffer, code: string][] = [
  ['empty', Buffer.alloc(0), 'HEADER_LENGTH'],
  ['7 bytes', Buffer.alloc(7), 'HEADER_LENGTH'],
  ['length 0', build('{}', eight, 0n), 'HEADER_LENGTH'],
  ['length 1', build('{}', eight, 1n), 'HEADER_LENGTH'],
  ['length beyond the file', build('{}', eight, 11n), 'HEADER_LENGTH'],
  ['length 2^31', build('{}', eight, 2n ** 31n), 'HEADER_LENGTH'],
  ['length 2^63', build('{}', eight, 2n ** 63n), 'HEADER_LENGTH'],
  ['length 2^64 - 1', build('{}', eight, 2n ** 64n - 1n), 'HEADER_LENGTH'],
  ['invalid UTF-8', build(Buffer.from([0x7b, 0xff, 0x7d])), 'HEADER_ENCODING'],
  ['byte order mark', build('\ufeff{}'), 'HEADER_ENCODING'],
  ['NUL', build('{"a\0":1}'), 'HEADER_ENCODING'],
  ['not JSON', build('hello'), 'HEADER_JSON'],
  ['array', build('[]'), 'HEADER_JSON'],
  ['null', build('null'), 'HEADER_JSON'],
  ['number', build('12'), 'HEADER_JSON'],
  ['unterminated', build('{"a":'), 'HEADER_JSON'],
  ['trailing text', build('{}x'), 'HEADER_JSON'],
  ['comment', build('{/**/}'), 'HEADER_JSON'],
  ['deep nesting', build('['.repeat(200_000)), 'HEADER_LIMIT'],
  ['duplicate tensor', build(`{"a":${f32('[1]', '[0,4]')},"a":${f32('[1]', '[4,8]')}}`, eight), 'DUPLICATE_KEY'],
  [
    'duplicate by escape',
    build(`{"a":${f32('[1]', '[0,4]')},"\\u0061":${f32('[1]', '[4,8]')}}`, eight),
    'DUPLICATE_KEY',
  ],
  [
    'duplicate field',
    build('{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', eight),
    'DUPLICATE_KEY',
  ],
  ['name of 1 MB', build(`{"${'x'.repeat(1 << 20)}":${f32('[2]', '[0,8]')}}`, eight), 'NAME'],
  ['metadata array', build('{"__metadata__":[]}'), 'METADATA'],
  ['metadata number', build('{"__metadata__":{"a":1}}'), 'METADATA'],
  ['metadata nested', build('{"__metadata__":{"a":{}}}'), 'METADATA'],
  ['dtype f32', build(one('[2]', '[0,8]', '"f32"'), eight), 'DTYPE'],
  ['dtype F33', build(one('[2]', '[0,8]', '"F33"'), eight), 'DTYPE'],
  ['dtype 5', build(one('[2]', '[0,8]', '5'), eight), 'DTYPE'],
  ['dtype missing', build('{"a":{"shape":[2],"data_offsets":[0,8]}}', eight), 'ENTRY'],
  ['extra field', build('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}', eight), 'ENTRY'],
  ['shape string', build(one('"2"', '[0,8]'), eight), 'SHAPE'],
  ['shape -1', build(one('[-1]', '[0,8]'), eight), 'SHAPE'],
  ['shape 1.5', build(one('[1.5]', '[0,8]'), eight), 'SHAPE'],
  ['shape 1e3', build(one('[1e3]', '[0,8]'), eight), 'SHAPE'],
  ['shape ["2"]', build(one('["2"]', '[0,8]'), eight), 'SHAPE'],
  ['shape [null]', build(one('[null]', '[0,8]'), eight), 'SHAPE'],
  ['9 sizes', build(one('[1,1,1,1,1,1,1,1,2]', '[0,8]'), eight), 'SHAPE'],
  ['size 2^53', build(one('[9007199254740992]', '[0,8]'), eight), 'OVERFLOW'],
  ['2^32 x 2^32', build(one('[4294967296,4294967296]', '[0,8]'), eight), 'OVERFLOW'],
  ['0 x 2^60', build(one('[0,1152921504606846976]', '[0,0]'), eight), 'OVERFLOW'],
  ['offsets swapped', build(one('[2]', '[8,0]'), eight), 'OFFSETS'],
  ['offset negative', build(one('[2]', '[-8,0]'), eight), 'OFFSETS'],
  ['offset float', build(one('[2]', '[0.0,8]'), eight), 'OFFSETS'],
  ['one offset', build(one('[2]', '[8]'), eight), 'OFFSETS'],
  ['three offsets', build(one('[2]', '[0,4,8]'), eight), 'OFFSETS'],
  ['beyond the file', build(one('[4]', '[0,16]'), eight), 'OFFSETS'],
  ['overlap', build(`{"a":${f32('[2]', '[0,8]')},"b":${f32('[1]', '[4,8]')}}`, eight), 'COVERAGE'],
  ['hole', build(`{"a":${f32('[1]', '[0,4]')},"b":${f32('[1]', '[8,12]')}}`, Buffer.alloc(12)), 'COVERAGE'],
  ['size other than shape', build(one('[3]', '[0,8]'), eight), 'SIZE'],
  ['byte after the last tensor', build(one('[2]', '[0,8]'), Buffer.alloc(9)), 'COVERAGE'],
  ['byte missing', build(one('[2]', '[0,8]'), Buffer.alloc(7)), 'OFFSETS'],
];

test.each(rows)('%s is refused', async (_, bytes, code) => {
  writeFileSync(file, bytes);
  const error = await openSafetensors(file).then(
    () => null,
    (problem: XlformersError) => problem,
  );
  expect(error).toMatchObject({ code: `ERR_SAFETENSORS_${code}`, name: 'XlformersError' });
  expect(error!.message).toContain(file);
});

test('what is no regular file is refused', async () => {
  await expect(openSafetensors(path.join(scratch, 'none'))).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  mkdirSync(path.join(scratch, 'folder'));
  await expect(openSafetensors(path.join(scratch, 'folder'))).rejects.toMatchObject({ code: 'ERR_FILE_KIND' });
  await expect(openSafetensors('/dev/zero')).rejects.toMatchObject({ code: 'ERR_FILE_KIND' });
});

test('odd but allowed: empty file, scalars, zero sizes, names of prototypes, leading spaces', async () => {
  writeFileSync(file, build('{}'));
  const empty = await openSafetensors(file);
  expect(empty.tensors.size).toBe(0);
  await empty.close();
  const names = ['__proto__', 'constructor', '', 'a'];
  const members = names.map(
    (name, index) => `"${name}":${f32(index === 3 ? '[]' : '[0,7]', index === 3 ? '[0,4]' : '[0,0]')}`,
  );
  writeFileSync(file, build(`  {${members.join(',')}}   `, Buffer.alloc(4)));
  const opened = await openSafetensors(file);
  expect([...opened.tensors.keys()]).toEqual(names);
  expect(opened.tensors.get('a')!.shape).toEqual([]);
  await opened.close();
});

test('what is written is read again, whatever the order; the same tensors give the same bytes', async () => {
  const entries = [
    {
      name: 'b',
      dtype: 'F32' as const,
      shape: [2, 3],
      data: new Uint8Array(Float32Array.from([1, 2, 3, 4, 5, 6]).buffer),
    },
    { name: '__proto__', dtype: 'U8' as const, shape: [3], data: Uint8Array.of(7, 8, 9) },
    { name: 'd', dtype: 'F64' as const, shape: [], data: new Uint8Array(Float64Array.of(0.1).buffer) },
  ];
  await writeSafetensors(file, entries, { format: 'pt' });
  const bytes = readFileSync(file);
  await writeSafetensors(file, [...entries].reverse(), { format: 'pt' });
  expect(readFileSync(file).equals(bytes)).toBe(true);
  const opened = await openSafetensors(file);
  expect(opened.metadata.get('format')).toBe('pt');
  for (const { name, data } of entries) expect([...(await opened.read(name))]).toEqual([...data]);
  await opened.close();
  expect(readdirSync(scratch).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  await expect(writeSafetensors(file, [{ ...entries[0]!, name: '__metadata__' }])).rejects.toMatchObject({
    code: 'ERR_SAFETENSORS_NAME',
  });
  await expect(writeSafetensors(file, [{ ...entries[0]!, shape: [7] }])).rejects.toMatchObject({
    code: 'ERR_SAFETENSORS_SIZE',
  });
  await expect(writeSafetensors(file, [entries[0]!, entries[0]!])).rejects.toMatchObject({
    code: 'ERR_SAFETENSORS_DUPLICATE_KEY',
  });
  // What failed left the old file.
  expect(readFileSync(file).equals(bytes)).toBe(true);
  await expect(writeSafetensors(path.join(scratch, 'no', 'such', 'folder'), entries)).rejects.toMatchObject({
    code: 'ERR_FILE_WRITE',
  });
});

test('half precision becomes float32', () => {
  const bytes = (values: number[]) => new Uint8Array(Uint16Array.from(values).buffer);
  expect([...toFloat32(bytes([0x3c00, 0xc000, 0x0001, 0x7c00, 0x0000]), 'F16')]).toEqual([
    1,
    -2,
    2 ** -24,
    Infinity,
    0,
  ]);
  expect([...toFloat32(bytes([0x3f80, 0xc000, 0x0000]), 'BF16')]).toEqual([1, -2, 0]);
});

test('3,000 mutations of a real file are refused or stay inside it', async () => {
  const random = new TestRandom(17);
  const original = readFileSync(path.join(__dirname, '..', 'fixtures', 'hf', 'txl-lm-div2', 'model.safetensors'));
  const headerEnd = 8 + Number(original.readBigUInt64LE(0));
  let accepted = 0;
  for (let round = 0; round < 3000; round += 1) {
    const bytes = Buffer.from(original);
    for (let edit = random.integer(1, 3); edit > 0; edit -= 1) {
      const position = random.integer(0, headerEnd - 1);
      bytes[position] =
        random.uniform() < 0.5
          ? random.pick([...'0123456789[]{},:"-.eF'].map((c) => c.charCodeAt(0)))
          : random.integer(0, 255);
    }
    writeFileSync(file, random.uniform() < 0.1 ? bytes.subarray(0, random.integer(0, bytes.length)) : bytes);
    try {
      const opened = await openSafetensors(file);
      accepted += 1;
      try {
        for (const [name, { begin, end }] of opened.tensors) expect((await opened.read(name)).length).toBe(end - begin);
      } finally {
        await opened.close();
      }
    } catch (error) {
      if (!(error instanceof XlformersError)) throw error;
    }
  }
  expect(accepted).toBeLessThan(3000);
});
