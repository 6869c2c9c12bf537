import type { TestRandom } from '../../test/support/random';
import { mutateBytes } from './bytes';

type Json = string | number | boolean | null | Json[] | Member[];

/** Objects are lists of members: a key may stand twice. */
interface Member {
  key: string;
  value: Json;
}

const isObject = (value: Json): value is Member[] =>
  Array.isArray(value) && value.length > 0 && typeof value[0] === 'object' && value[0] !== null && 'key' in value[0];

/** Numbers as JSON may write them, and some that it may not. */
const numbers = [
  '0',
  '-0',
  '-1',
  '1',
  '1.5',
  '1e3',
  '1e999',
  '2147483648',
  '4294967296',
  '9007199254740992',
  '18446744073709551616',
  'NaN',
  '007',
];
const texts = [
  '',
  'a',
  '__proto__',
  'constructor',
  '__metadata__',
  '../x',
  '/etc/passwd',
  'C:\\x',
  '\0',
  '\ud800',
  '\ufeff',
  'F32',
  '(a+)+$',
  'x'.repeat(600),
];

/** Changes the tree of a JSON text in one to three places and writes it again; sometimes its bytes as well. */
export function mutateJson(random: TestRandom, text: string): string {
  let root = parse(JSON.parse(text));
  for (let edit = random.integer(1, 3); edit > 0; edit -= 1) root = mutateNode(random, root);
  const written = write(random, root);
  return random.uniform() < 0.1 ? mutateBytes(random, Buffer.from(written)).toString('latin1') : written;
}

/** A number that is written as it stands. */
class Raw {
  constructor(readonly text: string) {}
}

function parse(value: unknown): Json {
  if (Array.isArray(value)) return value.map(parse);
  if (value === null || typeof value !== 'object') return value as Json;
  return Object.entries(value).map(([key, member]) => ({ key, value: parse(member) }));
}

function mutateNode(random: TestRandom, node: Json): Json {
  if (isObject(node)) {
    const index = random.integer(0, node.length - 1);
    const member = node[index] as Member;
    switch (random.integer(0, 7)) {
      case 0:
        return node.filter((_, at) => at !== index);
      case 1:
        return [...node, member];
      case 2:
        return replace(node, index, { ...member, key: random.uniform() < 0.5 ? random.pick(texts) : `${member.key}x` });
      case 3:
        return replace(node, index, { ...member, value: (random.pick(node) as Member).value });
      default:
        return replace(node, index, { ...member, value: mutateNode(random, member.value) });
    }
  }
  if (Array.isArray(node) && node.length > 0) {
    const items = node as Json[];
    const index = random.integer(0, items.length - 1);
    switch (random.integer(0, 5)) {
      case 0:
        return items.filter((_, at) => at !== index);
      case 1:
        return [...items, items[index] as Json];
      case 2:
        return replace(items, index, random.pick(items));
      default:
        return replace(items, index, mutateNode(random, items[index] as Json));
    }
  }
  return leaf(random, node);
}

function leaf(random: TestRandom, node: Json): Json {
  switch (random.integer(0, 6)) {
    case 0:
      return new Raw(random.pick(numbers)) as unknown as Json;
    case 1:
      return random.pick(texts);
    case 2:
      return random.pick([null, true, false, [], [[]]]);
    case 3:
      return typeof node === 'number' ? node + random.pick([-1, 1, 8, 2 ** 31]) : random.pick(texts);
    case 4:
      return typeof node === 'number' ? -node : [node];
    case 5:
      return Array.from({ length: 20 }).reduce<Json>((inner) => [inner], 1);
    default:
      return typeof node === 'string' ? node.slice(0, random.integer(0, node.length)) : node;
  }
}

function replace<T>(list: readonly T[], index: number, value: T): T[] {
  return list.map((item, at) => (at === index ? value : item));
}

function write(random: TestRandom, node: Json): string {
  if ((node as unknown) instanceof Raw) return (node as unknown as Raw).text;
  const space = random.uniform() < 0.01 ? ' \n' : '';
  if (isObject(node)) {
    return `{${node.map(({ key, value }) => `${space}${JSON.stringify(key)}:${write(random, value)}`).join()}}`;
  }
  if (Array.isArray(node)) return `[${space}${(node as Json[]).map((item) => write(random, item)).join()}]`;
  return JSON.stringify(node);
}
