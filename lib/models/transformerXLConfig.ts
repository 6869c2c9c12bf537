import { XlformersError, describe } from '../errors';
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

/** A Transformer-XL: Hugging Face's names in camelCase, and their defaults (the WikiText-103 model). */
export interface TransformerXLConfig extends Labels {
  vocabSize: number;
  /** Ids where the clusters of the adaptive embedding and softmax end, ascending; the last cluster ends at vocabSize. */
  cutoffs: number[];
  dModel: number;
  dEmbed: number;
  nHead: number;
  dHead: number;
  dInner: number;
  /** Each cluster's embedding is this many times narrower than the one before. */
  divVal: number;
  /** Normalise inputs instead of sums. */
  preLnorm: boolean;
  nLayer: number;
  /** Rows of memory; 0: none. */
  memLen: number;
  /** Distances beyond it use its position code; <= 0: all differ. */
  clampLen: number;
  /** Every position sees as many keys. */
  sameLength: boolean;
  dropout: number;
  /** On attention probabilities. */
  dropatt: number;
  /** Each layer has its own position biases. Default: as `compatibility` has it. */
  untieR: boolean;
  init: 'normal' | 'uniform';
  initRange: number;
  projInitStd: number;
  initStd: number;
  layerNormEpsilon: number;
  /** Output weights are the embedding's. */
  tieWordEmbeddings: boolean;
  /** By cluster: its softmax projection is the embedding's. */
  tieProjs: boolean[];
  eosTokenId: number;
  /** Padding id of sequence classification; null: none. */
  padTokenId: number | null;
  /** null: from the labels, as Hugging Face. */
  problemType: 'regression' | 'single_label_classification' | 'multi_label_classification' | null;
  /** Which implementation's silent choices to follow; see docs/compatibility.md. */
  compatibility: Compatibility;
}

export type TransformerXLOptions = Partial<TransformerXLConfig>;

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
const isTableEntry = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const problemTypes = ['regression', 'single_label_classification', 'multi_label_classification'];

const rules: Rules<TransformerXLConfig> = {
  vocabSize: integerRule(267_735, 1, 2 ** 31 - 1),
  cutoffs: {
    fallback: [20_000, 40_000, 200_000],
    accepts: (value) => Array.isArray(value) && value.length < 64 && value.every(isTableEntry),
    expected: 'an array of at most 63 ids',
  },
  dModel: integerRule(1024, 2, 1 << 20),
  dEmbed: integerRule(1024, 1, 1 << 20),
  nHead: integerRule(16, 1, 1 << 16),
  dHead: integerRule(64, 1, 256),
  dInner: integerRule(4096, 1, 1 << 24),
  divVal: integerRule(4, 1, 1 << 20),
  preLnorm: booleanRule(false),
  nLayer: integerRule(18, 1, 4096),
  memLen: integerRule(1600, 0, 2 ** 31 - 1),
  clampLen: integerRule(1000, -1, 2 ** 31 - 1),
  sameLength: booleanRule(true),
  dropout: probabilityRule(0.1),
  dropatt: probabilityRule(0),
  untieR: booleanRule(true),
  init: choiceRule('normal', ['normal', 'uniform']),
  initRange: numberRule(0.01, 0, 1e3),
  projInitStd: numberRule(0.01, 0, 1e3),
  initStd: numberRule(0.02, 0, 1e3),
  layerNormEpsilon: numberRule(1e-5, 0, 1),
  tieWordEmbeddings: booleanRule(true),
  tieProjs: {
    fallback: [],
    accepts: (value) => Array.isArray(value) && value.every((entry) => typeof entry === 'boolean'),
    expected: 'an array of booleans',
  },
  eosTokenId: integerRule(0, 0, 2 ** 31 - 1),
  padTokenId: {
    fallback: null,
    accepts: (value) => value === null || isTableEntry(value),
    expected: 'an id or null',
  },
  numLabels: integerRule(2, 1, 1 << 24),
  labelNames: labelNamesRule,
  problemType: {
    fallback: null,
    accepts: (value) => value === null || problemTypes.includes(value as string),
    expected: `null or one of ${problemTypes.join(', ')}`,
  },
  compatibility: choiceRule('hf', compatibilities),
};

/**
 * The configuration with defaults filled in.
 * @throws XlformersError ERR_CONFIG naming the field, what was given and what is accepted
 */
export function transformerXLConfig(options: TransformerXLOptions): TransformerXLConfig {
  const config = applyRules<TransformerXLConfig>('config', rules, countLabels(options));
  requireAsManyNames(config);
  const { vocabSize, dModel, dEmbed, divVal, nHead, dHead, sameLength, memLen, compatibility } = config;
  // Defaults that depend on other fields.
  const cutoffs = options.cutoffs ?? config.cutoffs.filter((id) => id < vocabSize);
  const tieProjs = cutoffs
    .concat(vocabSize)
    .map((_, index) => options.tieProjs?.[index] ?? (options.tieProjs ? false : index > 0));
  const preset = compatibilityRules[compatibility];
  const layerNormEpsilon = options.layerNormEpsilon ?? preset.layerNormEpsilon;
  const untieR = options.untieR ?? preset.untiedBiases;
  cutoffs.forEach((id, index) => {
    const before = cutoffs[index - 1] ?? 0;
    if (id <= before || id >= vocabSize) {
      refuse(`cutoffs[${index}]`, id, `an id above ${before} and below vocabSize ${vocabSize}`);
    }
  });
  if (dModel % 2 !== 0) refuse('dModel', dModel, 'an even number (half sines, half cosines)');
  if (Math.floor(dEmbed / divVal ** cutoffs.length) < 1) {
    refuse(
      'divVal',
      divVal,
      `a value that leaves the last of ${cutoffs.length + 1} clusters a width >= 1 from dEmbed ${dEmbed}`,
    );
  }
  if (nHead * dHead > 1 << 20)
    refuse('nHead', nHead, `at most ${Math.floor((1 << 20) / dHead)} heads of size ${dHead}`);
  if (sameLength && memLen === 0 && compatibility !== 'tf-original')
    refuse('sameLength', true, 'false where memLen is 0');
  return { ...config, cutoffs: [...cutoffs], tieProjs, layerNormEpsilon, untieR };
}

function refuse(name: string, given: unknown, expected: string): never {
  throw new XlformersError('ERR_CONFIG', `config.${name}: got ${describe(given)}, expected ${expected}`);
}

const toSnake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
/** All but the labels' names, which are in `id2label`. */
const fieldNames = (Object.keys(rules) as (keyof TransformerXLConfig)[]).filter((name) => name !== 'labelNames');
/** Fields whose file name is not just their own in snake_case. */
const fileNames: Partial<Record<keyof TransformerXLConfig, string>> = { compatibility: 'xlformers_compatibility' };

const fileName = (name: keyof TransformerXLConfig) => fileNames[name] ?? toSnake(name);

export const transformerXLConfigKeys: ConfigKeys = {
  own: [
    ...fieldNames.map(fileName),
    'adaptive',
    'attn_type',
    'sample_softmax',
    'tie_weight',
    'proj_share_all_but_first',
  ],
  unused: ['ext_len', 'tgt_len'],
};

/**
 * A configuration from Hugging Face's config.json. Its many general fields are of no concern here; those that would make another
 * model are refused, and so are misspelt ones.
 */
export function transformerXLConfigFromFile(file: Record<string, unknown>): TransformerXLConfig {
  if (file.model_type !== undefined && file.model_type !== 'transfo-xl') {
    refuse('model_type', file.model_type, "'transfo-xl'");
  }
  requireNoMisspelling(file, transformerXLConfigKeys);
  const unsupported: [name: string, accepted: (value: unknown) => boolean, expected: string][] = [
    ['attn_type', (value) => value === 0, '0 (partially learnable relative attention)'],
    ['sample_softmax', (value) => typeof value === 'number' && value <= 0, '-1 (no sampled softmax)'],
    ['adaptive', (value) => value === true, 'true'],
  ];
  for (const [name, accepted, expected] of unsupported) {
    if (file[name] !== undefined && !accepted(file[name])) refuse(name, file[name], expected);
  }
  const options: Record<string, unknown> = {};
  for (const name of fieldNames) {
    const value = fieldOf(file, fileName(name));
    if (value !== undefined && value !== null) options[name] = value;
  }
  Object.assign(options, labelsFromFile(file));
  // Hugging Face keeps neither: `tie_projs` says which clusters share, and where it is missing, this field does.
  const shares = file.proj_share_all_but_first;
  if (shares !== undefined && typeof shares !== 'boolean') refuse('proj_share_all_but_first', shares, 'true or false');
  if (file.tie_projs === null || (shares === false && file.tie_projs === undefined)) options.tieProjs = [];
  if (file.tie_weight !== undefined && file.tie_word_embeddings === undefined)
    options.tieWordEmbeddings = file.tie_weight;
  return transformerXLConfig(options as TransformerXLOptions);
}

/** config.json as Hugging Face writes it. */
export function transformerXLConfigToFile(config: TransformerXLConfig, architecture: string): Record<string, unknown> {
  const { numLabels, labelNames, ...fields } = config;
  return {
    architectures: [architecture],
    model_type: 'transfo-xl',
    adaptive: true,
    attn_type: 0,
    sample_softmax: -1,
    ...Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [fileName(name as keyof TransformerXLConfig), value]),
    ),
    ...labelsToFile({ numLabels, labelNames }),
  };
}
