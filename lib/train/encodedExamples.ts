import { type LabelledBatch, LabelledBatches, type LabelledText } from '../data/labelledText';
import { XlformersError } from '../errors';
import type { XLNetForSequenceClassification } from '../models/xlnetHeads';
import { scope } from '../scope';
import type { Tensor } from '../tensor';
import { layOut, layoutOptions } from '../tokenizers/batch';
import type { Encoding } from '../tokenizers/encoding';
import { padTypeId, type XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { requireVocabulary } from './vocabulary';

export interface EncodingOptions {
  tokenizer: XLNetTokenizer;
  /** Tokens of each text at most, `<sep>` and `<cls>` included. */
  maxLength: number;
  batchSize: number;
  /** Of the order of the epochs; null: the order given. */
  seed: number | null;
  /** For errors. */
  name: string;
}

export interface ClassifierOutput {
  /** Mean over the examples, a scalar. */
  loss: Tensor;
  /** [batch, numLabels] */
  logits: Tensor;
}

/** Labelled texts as tokens, for the classes of a model. */
export class EncodedExamples {
  readonly batches: LabelledBatches;
  readonly encodings: readonly Encoding[];
  private readonly tokenizer: XLNetTokenizer;

  /** @throws XlformersError ERR_CONFIG; ERR_DATA_FORMAT for a label that the model does not have */
  constructor(
    private readonly model: XLNetForSequenceClassification,
    examples: readonly LabelledText[],
    { tokenizer, maxLength, batchSize, seed, name }: EncodingOptions,
  ) {
    requireVocabulary(model.config, tokenizer);
    this.tokenizer = tokenizer;
    this.batches = new LabelledBatches(examples, classNames(model), batchSize, seed, name);
    this.encodings = examples.map(({ text }) => tokenizer.encode(text, { truncation: true, maxLength }));
  }

  /** Enqueues some examples, padded on the left to the longest of them. */
  forward({ indices, labels }: Pick<LabelledBatch, 'indices' | 'labels'>): ClassifierOutput {
    return scope(() => {
      const padding = { id: this.tokenizer.padTokenId, typeId: padTypeId };
      const inputs = layOut(this.encodingsOf(indices), layoutOptions({}, 'left'), padding, this.model.device);
      const { loss, logits } = this.model.forward({ ...inputs, labels: Array.from(labels), useMems: false });
      return { loss: loss as Tensor, logits };
    });
  }

  /** Tokens of some examples, without padding. */
  tokensOf(indices: Int32Array): number {
    return this.encodingsOf(indices).reduce((sum, { ids }) => sum + ids.length, 0);
  }

  private encodingsOf(indices: Int32Array): Encoding[] {
    return Array.from(indices, (place) => this.encodings[place] as Encoding);
  }
}

/** @throws XlformersError ERR_CONFIG */
export function classNames({ config }: XLNetForSequenceClassification): readonly string[] {
  const { labelNames } = config;
  if (labelNames === null) {
    throw new XlformersError(
      'ERR_CONFIG',
      'config.labelNames: is missing; give the model the names of its classes, such as labelNames(examples)',
    );
  }
  if (labelNames.length < 2) {
    throw new XlformersError(
      'ERR_CONFIG',
      `config.labelNames: got ${labelNames.join(', ')} alone, expected two classes or more: there is nothing to tell apart`,
    );
  }
  return labelNames;
}
