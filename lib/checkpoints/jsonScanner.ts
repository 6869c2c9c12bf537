/** Why a JSON text was refused. */
export class JsonProblem extends Error {
  constructor(
    readonly kind: 'syntax' | 'duplicate' | 'limit' | 'encoding',
    message: string,
  ) {
    super(message);
  }
}

/** A number as it stands in the text: safetensors forbids fractions and exponents that JSON.parse would hide. */
export class JsonNumber {
  constructor(readonly text: string) {}
}

export type JsonValue = string | boolean | null | JsonNumber | JsonValue[] | Map<string, JsonValue>;

export interface JsonLimits {
  maxDepth: number;
  /** Keys over all objects, and items over all arrays. */
  maxKeys: number;
  /** Items of one array: what is read has short ones, and a long one costs far more than its text. */
  maxItems: number;
}

const numberPattern = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/**
 * Parses JSON into maps, refusing what JSON.parse lets pass: duplicate keys, and more depth or keys than allowed. Objects become maps,
 * so that no key ("__proto__") can reach a prototype.
 * @throws JsonProblem
 */
export function scanJson(text: string, limits: JsonLimits): JsonValue {
  return scan(text, limits, (_, value) => value);
}

/**
 * The same for an object whose members are many: each is converted as soon as it is read, and what it was parsed into need not last.
 * @returns null where the text is no object
 */
export function scanJsonMembers<T>(
  text: string,
  limits: JsonLimits,
  convert: (key: string, value: JsonValue) => T,
): Map<string, T> | null {
  const root = scan(text, limits, convert);
  return root instanceof Map ? (root as Map<string, T>) : null;
}

/** `convert`: of the members of the outermost object. */
function scan<T>(
  text: string,
  { maxDepth, maxKeys, maxItems }: JsonLimits,
  convert: (key: string, value: JsonValue) => T,
): JsonValue | Map<string, T> {
  let position = 0;
  let keys = 0;

  const fail = (what: string): never => {
    throw new JsonProblem('syntax', `${what} at character ${position}`);
  };
  const skipSpace = () => {
    while (' \t\n\r'.includes(text[position] ?? 'x')) position += 1;
  };
  const literal = <T>(word: string, value: T): T => {
    if (!text.startsWith(word, position)) fail('unexpected text');
    position += word.length;
    return value;
  };

  const string = (): string => {
    const start = position;
    position += 1;
    for (;;) {
      const character = text[position];
      if (character === undefined) fail('unterminated string');
      if (character === '"') break;
      position += character === '\\' ? 2 : 1;
    }
    position += 1;
    let parsed: string;
    try {
      // The engine's parser knows the escapes and refuses raw control characters.
      parsed = JSON.parse(text.slice(start, position)) as string;
    } catch {
      return fail('invalid string');
    }
    if (/\p{Surrogate}/u.test(parsed)) {
      throw new JsonProblem('encoding', `half a surrogate pair in the string before character ${position}`);
    }
    return parsed;
  };

  const number = (): JsonNumber => {
    numberPattern.lastIndex = position;
    const found = numberPattern.exec(text);
    if (!found) return fail('unexpected character');
    position += found[0].length;
    return new JsonNumber(found[0]);
  };

  const value = (depth: number): JsonValue => {
    if (depth > maxDepth) throw new JsonProblem('limit', `nested deeper than ${maxDepth}`);
    skipSpace();
    switch (text[position]) {
      case '{':
        return object(depth, (_, member) => member);
      case '[':
        return array(depth);
      case '"':
        return string();
      case 't':
        return literal('true', true);
      case 'f':
        return literal('false', false);
      case 'n':
        return literal('null', null);
      default:
        return number();
    }
  };

  const array = (depth: number): JsonValue[] => {
    const items: JsonValue[] = [];
    position += 1;
    skipSpace();
    if (text[position] === ']') {
      position += 1;
      return items;
    }
    for (;;) {
      items.push(value(depth + 1));
      if ((keys += 1) > maxKeys) throw new JsonProblem('limit', `more than ${maxKeys} entries`);
      if (items.length > maxItems) throw new JsonProblem('limit', `an array of more than ${maxItems} items`);
      skipSpace();
      const next = text[position];
      position += 1;
      if (next === ']') return items;
      if (next !== ',') fail("expected ',' or ']'");
    }
  };

  const object = <M>(depth: number, make: (key: string, value: JsonValue) => M): Map<string, M> => {
    const members = new Map<string, M>();
    position += 1;
    skipSpace();
    if (text[position] === '}') {
      position += 1;
      return members;
    }
    for (;;) {
      skipSpace();
      if (text[position] !== '"') fail('expected a key');
      const key = string();
      if ((keys += 1) > maxKeys) throw new JsonProblem('limit', `more than ${maxKeys} keys`);
      if (members.has(key)) throw new JsonProblem('duplicate', `the key '${key.slice(0, 60)}' appears twice`);
      skipSpace();
      if (text[position] !== ':') fail("expected ':'");
      position += 1;
      members.set(key, make(key, value(depth + 1)));
      skipSpace();
      const next = text[position];
      position += 1;
      if (next === '}') return members;
      if (next !== ',') fail("expected ',' or '}'");
    }
  };

  skipSpace();
  const result = text[position] === '{' ? object(0, convert) : value(0);
  skipSpace();
  if (position !== text.length) fail('text after the end');
  return result;
}
