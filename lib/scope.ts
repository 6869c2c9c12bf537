import { XlformersError, argumentError } from './errors';

/** What a scope frees: tensors, and nothing else. */
interface Disposable {
  dispose(): void;
}

/** A class instance that holds tensors (a memory, a model's output) and can list them, so that `scope` lets them live on. */
export interface TensorContainer {
  tensors(): Iterable<Disposable>;
}

const stack: Set<Disposable>[] = [];

/** @internal Called for every new tensor. */
export function trackInScope(tensor: Disposable): void {
  stack[stack.length - 1]?.add(tensor);
}

/** Takes a tensor out of every open scope: it lives until it is disposed. */
export function keep<T extends Disposable>(tensor: T): T {
  for (const tracked of stack) tracked.delete(tensor);
  return tensor;
}

/** @internal The tensors inside a result, each object visited once: results may be deep, and may refer to themselves. */
export function* tensorsIn(result: unknown): Iterable<Disposable> {
  const seen = new Set<unknown>();
  const pending = [result];
  while (pending.length > 0) {
    const value = pending.pop();
    if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value) || seen.has(value)) continue;
    seen.add(value);
    if ('tensors' in value && typeof value.tensors === 'function') {
      yield* (value as TensorContainer).tensors();
    } else if ('dispose' in value && typeof value.dispose === 'function') {
      yield value as Disposable;
    } else {
      const items = value instanceof Map || value instanceof Set ? value.values() : Object.values(value);
      for (const item of items) pending.push(item);
    }
  }
}

/** @internal The body of a scope, run: it must be a function that has finished when it returns. @throws XlformersError ERR_ARG_TYPE */
export function runNow<T>(caller: string, body: () => T): T {
  if (typeof body !== 'function') throw argumentError('ERR_ARG_TYPE', `${caller}: body`, body, 'a function');
  const result = body();
  if (result !== null && typeof result === 'object' && 'then' in result && typeof result.then === 'function') {
    // Nobody else will look at it: what it fails with must not end the process.
    if (result instanceof Promise) result.catch(() => {});
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `${caller}: the body returned a promise, expected a synchronous function; await outside`,
    );
  }
  return result;
}

/**
 * Runs `body` and frees every tensor created in it, save those it returns (alone, in arrays, maps, plain objects or a
 * `TensorContainer`) and those given to `keep`. What gradients still need is kept by the tape. Scopes nest; what an inner scope
 * returns belongs to the outer one.
 * @throws XlformersError ERR_ARG_TYPE when `body` returns a promise: what runs after an `await` cannot be told from other work.
 */
export function scope<T>(body: () => T): T {
  const tracked = new Set<Disposable>();
  stack.push(tracked);
  try {
    const result = runNow('scope', body);
    const outer = stack[stack.length - 2];
    for (const tensor of tensorsIn(result)) {
      if (tracked.delete(tensor)) outer?.add(tensor);
    }
    return result;
  } finally {
    stack.pop();
    for (const tensor of tracked) tensor.dispose();
  }
}
