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
    const value = this.field(name);
    return Array.isArray(value) ? value : this.refuse(name, 'an array');
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
