import type { Options } from './workbench';

/** Where a value sits inside options: keys and indices. */
export type Path = readonly (string | number)[];

/** The paths of all values inside, handles being values. */
export function leafPaths(value: unknown, path: Path = []): Path[] {
  if (Array.isArray(value)) return value.flatMap((element, index) => leafPaths(element, [...path, index]));
  const fields = isPlain(value) ? Object.entries(value) : [];
  return fields.length === 0 ? [path] : fields.flatMap(([key, field]) => leafPaths(field, [...path, key]));
}

/** The paths of objects and arrays inside, the outermost excepted. */
export function branchPaths(options: Options): Path[] {
  const branches = leafPaths(options).flatMap((path) => path.slice(1).map((_, index) => path.slice(0, index + 1)));
  return [...new Map(branches.map((path) => [path.join('.'), path])).values()];
}

export function valueAt(options: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<string | number, unknown>)[key], options);
}

/** A copy with another value at the path; handles are shared. */
export function withValue<T>(options: T, path: Path, value: unknown): T {
  const [key, ...rest] = path;
  if (key === undefined) return value as T;
  const copy = (Array.isArray(options) ? [...(options as unknown[])] : { ...options }) as Record<string | number, unknown>;
  copy[key] = withValue(copy[key], rest, value);
  return copy as T;
}

/** Objects of options have fields; handles have none. */
function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
