import type { Parameter } from '../tensor';

/** The first parameter whose gradient or value is not finite, for an error message: "name (gradient)" or "name (value)". */
export async function firstNonFinite(parameters: ReadonlyMap<string, Parameter>): Promise<string | null> {
  for (const [name, parameter] of parameters) {
    for (const [what, tensor] of [
      ['value', parameter],
      ['gradient', parameter.grad],
    ] as const) {
      if (tensor && !(await tensor.data()).every(Number.isFinite)) return `${name} (${what})`;
    }
  }
  return null;
}
