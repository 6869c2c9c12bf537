/** Names of classes, in configurations and in config.json. */
import { XlformersError, describe } from '../errors';
import type { Rule } from '../options';

export interface Labels {
  /** Classes of the classification heads. Default: as many as `labelNames`, else 2. */
  numLabels: number;
  /** Names of the classes by id (`id2label` and `label2id` of config.json), each once; null: LABEL_0, LABEL_1 and so on. */
  labelNames: readonly string[] | null;
}

export const labelNamesRule: Rule = {
  fallback: null,
  accepts: (value) => value === null || isListOfNames(value),
  expected: 'null or an array of different names',
};

function isListOfNames(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((name) => typeof name === 'string' && name !== '') &&
    new Set(value).size === value.length
  );
}

/** Names bring their number. */
export function countLabels<Options extends Partial<Labels>>(options: Options): Options {
  const { numLabels, labelNames } = options;
  return numLabels === undefined && Array.isArray(labelNames) ? { ...options, numLabels: labelNames.length } : options;
}

/** @throws XlformersError ERR_CONFIG when there are more or fewer names than classes */
export function requireAsManyNames({ numLabels, labelNames }: Labels): void {
  if (labelNames === null || labelNames.length === numLabels) return;
  throw new XlformersError(
    'ERR_CONFIG',
    `config.labelNames: got ${describe(labelNames)}, expected ${numLabels} names, as numLabels says`,
  );
}

/** What `id2label` says: how many there are, and their names where they are a list of different ones; nothing where it is absent. */
export function labelsFromFile({ id2label }: Readonly<Record<string, unknown>>): Partial<Labels> {
  if (id2label === null || typeof id2label !== 'object') return {};
  const { length } = Object.keys(id2label);
  const names = Array.from({ length }, (_, id) => (id2label as Record<string, unknown>)[id]);
  // The names that Hugging Face makes up are none.
  const isNamed = isListOfNames(names) && names.some((name, id) => name !== madeUp(id));
  return { numLabels: length, ...(isNamed ? { labelNames: names as string[] } : {}) };
}

/**
 * `id2label` and `label2id`; nothing for two classes without names, which is what a file that lacks both means
 * (`PretrainedConfig.to_diff_dict`).
 */
export function labelsToFile({ numLabels, labelNames }: Labels): Record<string, unknown> {
  const names = Array.from({ length: numLabels }, (_, id) => labelNames?.[id] ?? madeUp(id));
  if (numLabels === 2 && names.every((name, id) => name === madeUp(id))) return {};
  return {
    id2label: Object.fromEntries(names.entries()),
    label2id: Object.fromEntries(names.map((name, id) => [name, id])),
  };
}

const madeUp = (id: number) => `LABEL_${id}`;
