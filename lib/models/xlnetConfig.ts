import { XlformersError, describe } from '../errors';
import type { Activation } from '../ops/activation';
import { applyRules, choiceRule, integerRule, numberRule, type Rule, type Rules } from '../options';
import { type ConfigKeys, fieldOf, requireNoMisspelling } from './configFile';
import { type Compatibility, compatibilities, compatibilityRules } from './compatibility';
import {
  type Labels,
  countLabels,
  labelNamesRule,
  labelsFromFile,
  labelsToFile,
  requireAsManyNames,
} from './labelNames';

export type SummaryType = 'last' | 'first' | 'mean' | 'cls_index';

/** An XLNet: Hugging Face's names in camelCase, and their defaults (the large model). */
export interface XLNetConfig extends Labels {
  vocabSize: number;
  dModel: number;
  nLayer: number;
  /** Heads of size dModel / nHead, at most 256. */
  nHead: number;
  dInner: number;
  /** 'gelu' is the exact form, or the tanh one under compatibility 'tf-original'. */
  ffActivation: 'relu' | 'gelu' | 'gelu_new' | 'silu';
  /** Each layer has its own biases. Hugging Face's class has no other way and ignores the field; so does this one. */
  untieR: boolean;
  /** 'bi': every position sees every other; 'uni': causal. */
  attnType: 'bi' | 'uni';
  initializerRange: number;
  layerNormEps: number;
  dropout: number;
  /** Rows of memory that a pass leaves; null or 0: everything that it saw (nothing under compatibility 'tf-original'). */
  memLen: number | null;
  /** Rows from the start of each segment that enter the memory; null or 0: all. */
  reuseLen: number | null;
  /** Whether passes return memory when not training. */
  useMemsEval: boolean;
  useMemsTrain: boolean;
  /** The second half of a batch holds reversed sequences. */
  biData: boolean;
  /** Distances beyond it, in either direction, use its position code; <= 0: all differ. */
  clampLen: number;
  /** With 'uni': every position sees as many keys. */
  sameLength: boolean;
  summaryType: SummaryType;
  summaryUseProj: boolean;
  /** 'tanh', or null for none. */
  summaryActivation: 'tanh' | 'relu' | 'gelu' | null;
  /** The summary's projection gives numLabels values instead of dModel. */
  summaryProjToLabels: boolean;
  summaryFirstDropout: number;
  summaryLastDropout: number;
  /** Beams of question answering. */
  startNTop: number;
  endNTop: number;
  padTokenId: number;
  bosTokenId: number;
  eosTokenId: number;
  tieWordEmbeddings: boolean;
  /** null: from the labels, as Hugging Face. */
  problemType: 'regression' | 'single_label_classification' | 'multi_label_classification' | null;
  /** Which implementation's silent choices to follow; see docs/compatibility.md. */
  compatibility: Compatibility;
}

export type XLNetOptions = Partial<XLNetConfig>;

const booleanRule = (fallback: boolean): Rule => ({
  fallback,
  accepts: (value) => typeof value === 'boolean',
  expected: 'true or false',
});
const probabilityRule = (fallback: number): Rule => ({
  fallback,
  accepts: (value) => typeof value === 'number' && value >= 0 && value < 1,
  expected: 'a number in [0, 1)',
});
const nullable = (rule: Rule): Rule => ({
  fallback: rule.fallback,
  accepts: (value) => value === null || rule.accepts(value),
  expected: `null or ${rule.expected}`,
});
const lengthRule = (fallback: number | null): Rule => ({ ...nullable(integerRule(0, 0, 2 ** 31 - 1)), fallback });
const idRule = (fallback: number) => integerRule(fallback, -1, 2 ** 31 - 1);

const rules: Rules<XLNetConfig> = {
  vocabSize: integerRule(32_000, 1, 2 ** 31 - 1),
  dModel: integerRule(1024, 2, 1 << 20),
  nLayer: integerRule(24, 1, 4096),
  nHead: integerRule(16, 1, 1 << 16),
  dInner: integerRule(4096, 1, 1 << 24),
  ffActivation: choiceRule('gelu', ['relu', 'gelu', 'gelu_new', 'silu']),
  untieR: booleanRule(true),
  attnType: choiceRule('bi', ['bi', 'uni']),
  initializerRange: numberRule(0.02, 0, 1e3),
  layerNormEps: numberRule(1e-12, 0, 1),
  dropout: probabilityRule(0.1),
  memLen: lengthRule(512),
  reuseLen: lengthRule(null),
  useMemsEval: booleanRule(true),
  useMemsTrain: booleanRule(false),
  biData: booleanRule(false),
  clampLen: integerRule(-1, -1, 2 ** 31 - 1),
  sameLength: booleanRule(false),
  summaryType: choiceRule('last', ['last', 'first', 'mean', 'cls_index']),
  summaryUseProj: booleanRule(true),
  summaryActivation: nullable(choiceRule('tanh', ['tanh', 'relu', 'gelu'])),
  summaryProjToLabels: booleanRule(false),
  summaryFirstDropout: probabilityRule(0),
  summaryLastDropout: probabilityRule(0.1),
  startNTop: integerRule(5, 1, 1 << 20),
  endNTop: integerRule(5, 1, 1 << 20),
  padTokenId: idRule(5),
  bosTokenId: idRule(1),
  eosTokenId: idRule(2),
  tieWordEmbeddings: booleanRule(true),
  numLabels: integerRule(2, 1, 1 << 24),
  labelNames: labelNamesRule,
  problemType: nullable({
    ...choiceRule('', ['regression', 'single_label_classification', 'multi_label_classification']),
    fallback: null,
  }),
  compatibility: choiceRule('hf', compatibilities),
};

/** Fields for which null is a value of its own, not the default. */
const nullFields = ['memLen', 'reuseLen', 'summaryActivation', 'problemType'] as const;

/**
 * The configuration with defaults filled in.
 * @throws XlformersError ERR_CONFIG naming the field, what was given and what is accepted
 */
export function xlnetConfig(options: XLNetOptions): XLNetConfig {
  const config = applyRules<XLNetConfig>('config', rules, countLabels(options));
  for (const name of nullFields) {
    if (options[name] === null) (config as unknown as Record<string, unknown>)[name] = null;
  }
  const { dModel, nHead } = config;
  requireAsManyNames(config);
  if (dModel % 2 !== 0) refuse('dModel', dModel, 'an even number (half sines, half cosines)');
  if (dModel % nHead !== 0) refuse('nHead', nHead, `a divisor of dModel ${dModel}`);
  if (dModel / nHead > 256)
    refuse('nHead', nHead, `at least ${Math.ceil(dModel / 256)} heads, of at most 256 columns each`);
  return config;
}

/** The feed-forward layers' activation. */
export function feedForwardActivation({ ffActivation, compatibility }: XLNetConfig): Activation {
  if (ffActivation === 'gelu') return compatibilityRules[compatibility].gelu;
  return ffActivation === 'gelu_new' ? 'geluTanh' : ffActivation;
}

function refuse(name: string, given: unknown, expected: string): never {
  throw new XlformersError('ERR_CONFIG', `config.${name}: got ${describe(given)}, expected ${expected}`);
}

const toSnake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
/** All but the labels' names, which are in `id2label`. */
const fieldNames = (Object.keys(rules) as (keyof XLNetConfig)[]).filter((name) => name !== 'labelNames');
/** Fields whose file name is not just their own in snake_case. */
const fileNames: Partial<Record<keyof XLNetConfig, string>> = {
  compatibility: 'xlformers_compatibility',
  startNTop: 'start_n_top',
  endNTop: 'end_n_top',
};
const fileName = (name: keyof XLNetConfig) => fileNames[name] ?? toSnake(name);

export const xlnetConfigKeys: ConfigKeys = {
  own: [...fieldNames.map(fileName), 'd_head', 'use_cache'],
  // The first releases had them; Hugging Face's class passes them over, the attention's own dropout too.
  unused: ['dropatt', 'init', 'init_range', 'init_std'],
};

/** A configuration from Hugging Face's config.json; its many general fields are of no concern here, misspelt ones are refused. */
export function xlnetConfigFromFile(file: Record<string, unknown>): XLNetConfig {
  if (file.model_type !== undefined && file.model_type !== 'xlnet') refuse('model_type', file.model_type, "'xlnet'");
  requireNoMisspelling(file, xlnetConfigKeys);
  const options: Record<string, unknown> = {};
  for (const name of fieldNames) {
    const value = fieldOf(file, fileName(name));
    if (value !== undefined) options[name] = value;
  }
  if (options.ffActivation === 'swish') options.ffActivation = 'silu';
  if (options.useMemsEval === undefined && file.use_cache !== undefined) options.useMemsEval = file.use_cache;
  Object.assign(options, labelsFromFile(file));
  const config = xlnetConfig(options as XLNetOptions);
  const headDim = config.dModel / config.nHead;
  if (file.d_head !== undefined && file.d_head !== headDim)
    refuse('d_head', file.d_head, `d_model / n_head = ${headDim}`);
  return config;
}

/** config.json as Hugging Face writes it. */
export function xlnetConfigToFile(config: XLNetConfig, architecture: string): Record<string, unknown> {
  const { numLabels, labelNames, ...fields } = config;
  return {
    architectures: [architecture],
    model_type: 'xlnet',
    d_head: config.dModel / config.nHead,
    ...Object.fromEntries(Object.entries(fields).map(([name, value]) => [fileName(name as keyof XLNetConfig), value])),
    ...labelsToFile({ numLabels, labelNames }),
  };
}
