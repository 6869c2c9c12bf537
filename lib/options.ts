import { XlformersError, describe } from './errors';

/** A rule for one option: the value it takes when absent, and what it accepts. */
export interface Rule {
  fallback: unknown;
  accepts: (value: unknown) => boolean;
  expected: string;
}

export function integerRule(fallback: number, lowest: number, highest = Number.MAX_SAFE_INTEGER): Rule {
  return {
    fallback,
    accepts: (value) => Number.isSafeInteger(value) && (value as number) >= lowest && (value as number) <= highest,
    expected: highest === Number.MAX_SAFE_INTEGER ? `an integer >= ${lowest}` : `an integer in [${lowest}, ${highest}]`,
  };
}

export function numberRule(fallback: number, lowest: number, highest = Number.MAX_VALUE): Rule {
  return {
    fallback,
    accepts: (value) => typeof value === 'number' && value >= lowest && value <= highest,
    expected: highest === Number.MAX_VALUE ? `a finite number >= ${lowest}` : `a number in [${lowest}, ${highest}]`,
  };
}

export function choiceRule(fallback: string, choices: readonly string[]): Rule {
  return {
    fallback,
    accepts: (value) => typeof value === 'string' && choices.includes(value),
    expected: `one of ${choices.join(', ')}`,
  };
}

export type Rules<T> = { readonly [K in keyof T]-?: Rule };

/** @throws XlformersError ERR_CONFIG for what is no object or holds an unknown name, with a suggestion */
export function requireKnownOptions(
  path: string,
  names: readonly string[],
  given: unknown,
): asserts given is Record<string, unknown> {
  if (given === null || typeof given !== 'object' || Array.isArray(given)) {
    throw new XlformersError('ERR_CONFIG', `${path}: got ${describe(given)}, expected an object`);
  }
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    const close = nearest(name, names);
    throw new XlformersError(
      'ERR_CONFIG',
      `${path}.${name}: unknown option${close ? `; did you mean '${close}'?` : `; known are ${names.join(', ')}`}`,
    );
  }
}

/**
 * Options with defaults filled in.
 * @throws XlformersError ERR_CONFIG naming the option, what was given and what is accepted; unknown names get a suggestion
 */
export function applyRules<T extends object>(path: string, rules: Rules<T>, given: unknown): T {
  const names = Object.keys(rules);
  requireKnownOptions(path, names, given);
  const result: Record<string, unknown> = {};
  for (const name of names) {
    const { fallback, accepts, expected } = rules[name as keyof T];
    const value = given[name] ?? fallback;
    if (!accepts(value)) {
      throw new XlformersError('ERR_CONFIG', `${path}.${name}: got ${describe(value)}, expected ${expected}`);
    }
    result[name] = value;
  }
  return result as T;
}

/** The candidate within two edits of a misspelt name (or fewer, as asked), if any. */
export function nearest(name: string, candidates: readonly string[], furthest = 2): string | undefined {
  let best: string | undefined;
  let bestDistance = furthest + 1;
  for (const candidate of candidates) {
    // So many letters more or fewer are as many edits.
    if (Math.abs(name.length - candidate.length) >= bestDistance) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(
        (row[j] as number) + 1,
        (next[j - 1] as number) + 1,
        (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    }
    row = next;
  }
  return row[b.length] as number;
}
