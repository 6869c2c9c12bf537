import { XlformersError, describe } from '../errors';

/** An object of a JSON file, read field by field; every error names the field. */
export class JsonObject {
  private constructor(
    private readonly value: Record<string, unknown>,
    readonly path: string,
  ) {}

  static parse(text: string, path: string): JsonObject {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new XlformersError('ERR_TOKENIZER_FILE', `${path}: is not JSON: ${(error as Error).message}`, {
        cause: error,
      });
    }
    return JsonObject.of(value, path);
  }

  static of(value: unknown, path: string): JsonObject {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) throw mismatch(path, value, 'an object');
    return new JsonObject(value as Record<string, unknown>, path);
  }

  object(name: string): JsonObject {
    return JsonObject.of(this.field(name), `${this.path}.${name}`);
  }

  /** Undefined where the field is missing or null. */
  optionalObject(name: string): JsonObject | undefined {
    return this.field(name) == null ? undefined : this.object(name);
  }

  array(name: string): unknown[] {
    return this.optionalArray(name) ?? this.refuse(name, 'an array');
  }

  /** Undefined where the field is missing or null. */
  optionalArray(name: string): unknown[] | undefined {
    const value = this.field(name);
    if (value == null) return undefined;
    return Array.isArray(value) ? value : this.refuse(name, 'an array');
  }

  /** Names of fields, and what they hold. */
  entries(): [name: string, value: unknown][] {
    return Object.entries(this.value);
  }

  /** A token by its text, or as an object with its `content`; undefined where the field is missing or null. */
  optionalToken(name: string): string | undefined {
    return this.field(name) == null ? undefined : JsonObject.token(this.field(name), `${this.path}.${name}`);
  }

  static token(value: unknown, path: string): string {
    const text = typeof value === 'string' ? value : JsonObject.of(value, path).string('content');
    if (text === '') throw mismatch(path, text, 'a token of one character or more');
    return text;
  }

  string(name: string): string {
    return this.optionalString(name) ?? this.refuse(name, 'a string');
  }

  optionalString(name: string): string | undefined {
    const value = this.field(name);
    if (value == null) return undefined;
    return typeof value === 'string' ? value : this.refuse(name, 'a string');
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.field(name) ?? fallback;
    return typeof value === 'boolean' ? value : this.refuse(name, 'true or false');
  }

  optionalNumber(name: string): number | undefined {
    const value = this.field(name);
    if (value == null) return undefined;
    return typeof value === 'number' ? value : this.refuse(name, 'a number');
  }

  integer(name: string, lowest: number, highest: number): number {
    const value = this.field(name);
    if (Number.isSafeInteger(value) && (value as number) >= lowest && (value as number) <= highest)
      return value as number;
    throw new XlformersError(
      'ERR_TOKENIZER_ID',
      `${this.path}.${name}: got ${describe(value)}, expected an integer in [${lowest}, ${highest}]`,
    );
  }

  private field(name: string): unknown {
    return Object.hasOwn(this.value, name) ? this.value[name] : undefined;
  }

  private refuse(name: string, expected: string): never {
    throw mismatch(`${this.path}.${name}`, this.field(name), expected);
  }
}

function mismatch(path: string, value: unknown, expected: string): XlformersError {
  return new XlformersError('ERR_TOKENIZER_FILE', `${path}: got ${describe(value)}, expected ${expected}`);
}
