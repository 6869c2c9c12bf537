import { XlformersError, describe } from '../errors';
import type { TransformerXLForSequenceClassification } from '../models/transformerXLHeads';
import { XLNetForSequenceClassification } from '../models/xlnetHeads';
import { inBatches, type TextBatchOptions, type TokenBatch } from './textBatches';
import type { Tokenizer } from '../tokenizers/tokenizer';

/** What a classifier's outputs mean: one class of several, any number of classes, or values. */
export type ProblemType = 'single_label_classification' | 'multi_label_classification' | 'regression';

export interface ClassifyTextsOptions extends TextBatchOptions {
  /** Names of the classes, by id. Default `LABEL_0`, `LABEL_1`, … */
  labels?: readonly string[];
}

/** A text and its classes. */
export interface ClassifiedText {
  text: string;
  problemType: ProblemType;
  /**
   * The most probable class; of a multi-label classifier those whose probability is at least one half, the most probable first; none of
   * a regression.
   */
  labels: string[];
  /** By class: softmax or, of several labels, sigmoid of the output; of a regression the output itself. */
  scores: { label: string; score: number }[];
}

/**
 * How a classifier's outputs are to be read: by `problemType`; where that is null, a single output is a regression and more are
 * classes that exclude each other, as in the losses of Hugging Face's heads.
 */
export function problemTypeOf(config: { problemType: ProblemType | null; numLabels: number }): ProblemType {
  return config.problemType ?? (config.numLabels === 1 ? 'regression' : 'single_label_classification');
}

/**
 * The names of the classes in a config.json (`id2label`), by id.
 * @throws XlformersError ERR_CONFIG when ids are missing or a name is no string
 */
export function classNames(configFile: Record<string, unknown>, numLabels: number): string[] {
  const given = configFile.id2label as Record<string, unknown> | null | undefined;
  return Array.from({ length: numLabels }, (_, id) => {
    if (given === null || given === undefined) return `LABEL_${id}`;
    const name = Object.hasOwn(given, String(id)) ? given[id] : undefined;
    if (typeof name === 'string') return name;
    throw new XlformersError('ERR_CONFIG', `config.id2label.${id}: got ${describe(name)}, expected a name`);
  });
}

/**
 * Classes of texts with their probabilities. Texts are padded to the longest of their batch; a Transformer-XL without `padTokenId`
 * takes one at a time.
 * @returns one result after the other, in the order of the texts
 * @throws XlformersError ERR_ARG_*, ERR_TOKEN_ID when tokenizer and model do not belong together; the signal's reason when aborted
 */
export async function* classifyTexts(
  model: XLNetForSequenceClassification | TransformerXLForSequenceClassification,
  tokenizer: Tokenizer,
  texts: readonly string[],
  { labels, ...options }: ClassifyTextsOptions = {},
): AsyncGenerator<ClassifiedText> {
  const { numLabels, padTokenId } = model.config;
  const names = labels ?? Array.from({ length: numLabels }, (_, id) => `LABEL_${id}`);
  if (names.length !== numLabels) {
    throw new XlformersError('ERR_ARG_SHAPE', `labels: got ${names.length} names, expected ${numLabels}`);
  }
  const problemType = problemTypeOf(model.config);
  const padId = padTokenId === null || padTokenId < 0 ? null : padTokenId;
  const forward = ({ inputIds, tokenTypeIds, attentionMask }: TokenBatch) =>
    model instanceof XLNetForSequenceClassification
      ? model.forward({ inputIds, tokenTypeIds, ...(attentionMask && { attentionMask }), useMems: false }).logits
      : model.forward({ inputIds, useMems: false }).logits;
  for await (const { text, values } of inBatches(model, tokenizer, texts, options, padId, forward)) {
    const scores = toScores(Array.from(values), problemType);
    const ranked = scores.map((score, id) => ({ score, label: names[id] as string })).sort((a, b) => b.score - a.score);
    yield {
      text,
      problemType,
      labels: chosen(ranked, problemType).map(({ label }) => label),
      scores: scores.map((score, id) => ({ label: names[id] as string, score })),
    };
  }
}

function chosen<T extends { score: number }>(ranked: T[], problemType: ProblemType): T[] {
  if (problemType === 'regression') return [];
  return problemType === 'single_label_classification'
    ? ranked.slice(0, 1)
    : ranked.filter(({ score }) => score >= 0.5);
}

function toScores(logits: readonly number[], problemType: ProblemType): number[] {
  if (problemType === 'regression') return [...logits];
  if (problemType === 'multi_label_classification') return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
