import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XLNetTokenizer } from '../../lib';
import { fixturePath } from '../../test/support/fixtures';
import type { TestRandom } from '../../test/support/random';
import { mutateBytes } from './bytes';
import { type Format, requireBounds } from './format';
import { mutateJson } from './json';

const samples = ['', 'Hello, world! 1,234', '  ▁ <sep>\ufdfa\u0301é\ud83d\ude00\ud800 ', 'aaaaaaaaaa'.repeat(20)];

/** Ids of the vocabulary, and offsets that follow each other inside the text. */
async function check(file: Buffer, folder: string, name: string): Promise<void> {
  const place = path.join(folder, name);
  await fs.writeFile(place, file);
  const tokenizer = await XLNetTokenizer.fromFile(place);
  for (const text of samples) {
    const { ids, offsets } = tokenizer.encode(text);
    for (const id of ids) requireBounds(id >= 0 && id < tokenizer.vocabSize, `id ${id} of ${tokenizer.vocabSize}`);
    for (const [start, end] of offsets)
      requireBounds(start >= 0 && start <= end && end <= text.length, `offsets ${start}, ${end}`);
    tokenizer.decode(ids);
  }
}

const folder = fixturePath('tokenizers', 'xlnet-small');
/** Pieces that remain in most cases: reading thousands each time would mean fewer cases. */
const kept = 200;

export const tokenizerJson: Format = {
  corpus: async () => {
    const whole = JSON.parse(await fs.readFile(path.join(folder, 'tokenizer.json'), 'utf8')) as {
      model: { vocab: unknown[] };
      normalizer: { normalizers: { type: string }[] };
    };
    const small = { ...whole, model: { ...whole.model, vocab: whole.model.vocab.slice(0, kept) } };
    const normalizers = whole.normalizer.normalizers.filter(({ type }) => type !== 'Precompiled');
    const plain = { ...small, normalizer: { ...whole.normalizer, normalizers } };
    return [plain, plain, plain, plain, plain, plain, plain, small].map((value) => Buffer.from(JSON.stringify(value)));
  },
  mutate: (random, file) =>
    random.uniform() < 0.2 ? mutateBytes(random, file) : Buffer.from(mutateJson(random, file.toString())),
  check: (file, place) => check(file, place, 'tokenizer.json'),
};

/** A field of a protocol buffer message: its tag and value, as they stand. */
type Field = Buffer;

function varint(bytes: Buffer, at: number): { value: number; next: number } {
  let value = 0;
  let next = at;
  for (let factor = 1; ; factor *= 128, next += 1) {
    const byte = bytes[next] as number;
    value += (byte & 127) * factor;
    if (byte < 128) return { value, next: next + 1 };
  }
}

function writeVarint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) + (rest >= 128 ? 128 : 0));
    if (rest < 128) return Buffer.from(bytes);
  }
}

/** The fields of a sound message. */
function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length;) {
    const { value: tag, next } = varint(bytes, at);
    const kind = tag % 8;
    const length = kind === 2 ? varint(bytes, next) : null;
    const end = length
      ? length.next + length.value
      : kind === 5
        ? next + 4
        : kind === 1
          ? next + 8
          : varint(bytes, next).next;
    fields.push(bytes.subarray(at, end));
    at = end;
  }
  return fields;
}

function mutateField(random: TestRandom, field: Field): Field {
  const { value: tag, next } = varint(field, 0);
  if (random.uniform() < 0.1)
    return Buffer.concat([writeVarint(random.pick([0, 7, tag + 1, tag + 8, 2 ** 32])), field.subarray(next)]);
  if (tag % 8 !== 2) return mutateBytes(random, field);
  const content = mutateBytes(random, field.subarray(varint(field, next).next));
  const length = random.uniform() < 0.1 ? random.pick([0, content.length + 1, 2 ** 31, 2 ** 53]) : content.length;
  return Buffer.concat([field.subarray(0, next), writeVarint(length), content]);
}

export const sentencePiece: Format = {
  corpus: async () => {
    const fields = fieldsOf(await fs.readFile(path.join(folder, 'spiece.model')));
    const isPiece = (field: Field) => field[0] === 0x0a;
    const pieces = fields.filter(isPiece).slice(0, kept);
    // Field 3 holds the normalization table, which takes long to check.
    const others = fields.filter((field) => !isPiece(field));
    const plain = Buffer.concat([...pieces, ...others.filter((field) => field[0] !== 0x1a)]);
    return [plain, plain, plain, plain, plain, plain, plain, Buffer.concat([...pieces, ...others])];
  },
  mutate(random, file) {
    if (random.uniform() < 0.2) return mutateBytes(random, file);
    const fields = fieldsOf(file);
    for (let edit = random.integer(1, 3); edit > 0; edit -= 1) {
      const index = random.integer(0, fields.length - 1);
      const field = fields[index] as Field;
      if (random.uniform() < 0.2) fields.splice(index, 1);
      else if (random.uniform() < 0.2) fields.splice(index, 0, random.pick(fields));
      else fields[index] = mutateField(random, field);
    }
    return Buffer.concat(fields);
  },
  check: (file, place) => check(file, place, 'spiece.model'),
};
