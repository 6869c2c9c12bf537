import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import { XlformersError } from '../errors';

/** Exit codes: 0 done, 1 failed, 2 wrong usage, 75 (EX_TEMPFAIL) interrupted and saved: run again with --resume. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 75 } as const;

export const deviceOption = () =>
  new Option('--device <device>', "'auto', 'cpu', 'cuda' or 'cuda:<index>'").env('XLFORMERS_DEVICE').default('auto');

/** Float64 is left to tests. */
export const modelTypes = ['float32', 'bfloat16', 'float16'] as const;

export const dtypeOption = () =>
  new Option('--dtype <type>', 'of the weights and of what is computed; 16 bits on CUDA devices only')
    .choices(modelTypes)
    .default('float32');

export const jsonOption = () => new Option('--json', 'print one JSON object instead of text');

export const seedOption = () => new Option('--seed <n>', 'the same seed gives the same result').argParser(integer(0));

/** A parser for integers >= lowest. */
export function integer(lowest: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value) || value < lowest) {
      throw new InvalidArgumentError(`Expected an integer >= ${lowest}.`);
    }
    return value;
  };
}

/** A parser for finite numbers in [lowest, highest]. */
export function number(lowest: number, highest = Number.MAX_VALUE) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= lowest && value <= highest)) {
      const range = highest === Number.MAX_VALUE ? `>= ${lowest}` : `in [${lowest}, ${highest}]`;
      throw new InvalidArgumentError(`Expected a number ${range}.`);
    }
    return value;
  };
}

/** A JSON file that holds an object. @throws XlformersError ERR_CONFIG */
export function readJsonObject(file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new XlformersError('ERR_CONFIG', `${file}: ${(error as Error).message}`, { cause: error });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new XlformersError('ERR_CONFIG', `${file}: expected a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** The folder with config.json: the one given, or `model/` in a training directory. */
export function modelFolder(directory: string): string {
  for (const candidate of [directory, path.join(directory, 'model')]) {
    if (existsSync(path.join(candidate, 'config.json'))) return candidate;
  }
  throw new XlformersError(
    'ERR_FILE_READ',
    `${directory}: holds no config.json, nor does ${path.join(directory, 'model')}; expected a model folder or a finished training directory`,
  );
}

export function mebibytes(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
