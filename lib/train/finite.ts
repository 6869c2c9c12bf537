import type { Parameter } from '../tensor';

/**
 * The first parameter whose value, else whose gradient, is not finite, for an error message: "name (value)" or "name (gradient)".
 * Values come first: one bad weight spoils the gradients of all.
 */
export async function firstNonFinite(parameters: ReadonlyMap<string, Parameter>): Promise<string | null> {
  for (const what of ['value', 'gradient'] as const) {
    for (const [name, parameter] of parameters) {
      const tensor = what === 'value' ? parameter : parameter.grad;
      if (tensor && !(await tensor.data()).every(Number.isFinite)) return `${name} (${what})`;
    }
  }
  return null;
}
