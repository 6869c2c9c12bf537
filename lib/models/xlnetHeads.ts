/** XLNet with its heads: language model, classification of sequences and tokens, multiple choice. */
import { XlformersError, describe } from '../errors';
import { InferenceCache } from '../nn/inferenceCache';
import { SequenceSummary } from '../nn/sequenceSummary';
import type { Parameters } from '../nn/parameters';
import { isGradEnabled } from '../autograd';
import { requireShape } from '../ops/checks';
import { linear } from '../ops/linear';
import { meanLabelled } from '../ops/meanNonzero';
import { reshape } from '../ops/shape';
import { softmaxCrossEntropy } from '../ops/softmaxCrossEntropy';
import { scope } from '../scope';
import { type Parameter, Tensor } from '../tensor';
import type { NestedArray } from '../tensorData';
import { type ClassLabels, classificationLoss, ignoredLabel } from './classificationLoss';
import type { DecodingOptions, DecodingSession, GenerativeModel } from './decoding';
import { type IdInput, idTensor } from './inputs';
import type { ModelOptions, PretrainedOptions } from './pretrainedModel';
import {
  XLNetBase,
  xlnetInitializer,
  type XLNetInputs,
  XLNetModel,
  type XLNetOutput,
  type XLNetPretrainedOptions,
} from './xlnet';
import type { XLNetConfig, XLNetOptions } from './xlnetConfig';
import { xlnetDecoding } from './xlnetDecoding';

/** A model around the bare one. */
export abstract class XLNetWithHead extends XLNetBase {
  readonly transformer: XLNetModel;

  protected constructor(options: XLNetOptions, modelOptions: ModelOptions) {
    super(options, modelOptions);
    this.transformer = new XLNetModel(this.config, modelOptions, this);
  }

  protected override get body(): XLNetModel {
    return this.transformer;
  }
}

/** A linear layer with its bias. */
export class HeadProjection {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    private readonly parameters: Parameters,
    name: string,
    shape: readonly [number, number],
    config: XLNetConfig,
    bias = true,
  ) {
    this.weight = parameters.create(`${name}.weight`, shape, xlnetInitializer(config));
    this.bias = bias ? parameters.create(`${name}.bias`, [shape[0]], { kind: 'constant', value: 0 }) : null;
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.parameters.operand(this.weight), { bias: this.bias && this.parameters.operand(this.bias) });
  }
}

/** Mean cross-entropy of logits [..., classes] against ids of the leading shape; -100 is ignored. */
export function tokenLoss(logits: Tensor, labels: Tensor): Tensor {
  const classes = logits.shape[logits.shape.length - 1] as number;
  const rows = logits.size / classes;
  const flat = reshape(labels, [rows]);
  return meanLabelled(softmaxCrossEntropy(reshape(logits, [rows, classes]), flat), flat);
}

function summaryOf(weights: Parameters, config: XLNetConfig): SequenceSummary {
  return new SequenceSummary(weights, 'sequence_summary.summary.', {
    dModel: config.dModel,
    type: config.summaryType,
    projection: !config.summaryUseProj ? null : config.summaryProjToLabels ? config.numLabels : config.dModel,
    activation: config.summaryActivation ?? 'none',
    firstDropout: config.summaryFirstDropout,
    lastDropout: config.summaryLastDropout,
    weightInit: xlnetInitializer(config),
  });
}

/** Columns of a sequence summary. */
function summaryWidth({ summaryUseProj, summaryProjToLabels, numLabels, dModel }: XLNetConfig): number {
  return summaryUseProj && summaryProjToLabels ? numLabels : dModel;
}

export interface XLNetLMInputs extends XLNetInputs {
  /** Tokens to predict: [batch, P] with targets, else [batch, L]; not shifted. -100 is ignored. */
  labels?: IdInput;
}

export interface XLNetLMOutput extends XLNetOutput {
  /** [batch, P or L, vocabSize] */
  logits: Tensor;
  /** A scalar; null without labels. */
  loss: Tensor | null;
}

/** The (permutation) language model: the embedding's transpose over the vocabulary. */
export class XLNetLMHeadModel extends XLNetWithHead implements GenerativeModel {
  private readonly weight: Parameter;
  private readonly bias: Parameter;
  private readonly cache = new InferenceCache();

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { vocabSize, dModel, tieWordEmbeddings } = this.config;
    this.weight = tieWordEmbeddings
      ? this.weights.alias('lm_loss.weight', this.transformer.wordEmbedding)
      : this.weights.create('lm_loss.weight', [vocabSize, dModel], xlnetInitializer(this.config));
    this.bias = this.weights.create('lm_loss.bias', [vocabSize], { kind: 'constant', value: 0 });
  }

  /** A folder or hub id with config.json and weights. @throws XlformersError ERR_FILE_*, ERR_CONFIG, ERR_CHECKPOINT_MISMATCH */
  static fromPretrained(nameOrPath: string, options: XLNetPretrainedOptions = {}): Promise<XLNetLMHeadModel> {
    return XLNetBase.load(nameOrPath, options, (config) => new XLNetLMHeadModel(config, options), 'transformer.');
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: XLNetLMInputs): XLNetLMOutput {
    return scope(() => {
      const { vocabSize } = this.config;
      const labels = inputs.labels && idTensor('labels', inputs.labels, vocabSize, this.device, ignoredLabel);
      const out = this.transformer.forward(inputs);
      const fixed = !this.training && !isGradEnabled();
      const weight = this.weights.operand(this.weight);
      const logits = linear(out.lastHiddenState, weight, {
        bias: this.weights.operand(this.bias),
        packed: fixed ? this.cache.packed(weight) : null,
      });
      if (labels) requireShape('labels', labels, logits.shape.slice(0, 2));
      return { ...out, logits, loss: labels ? tokenLoss(logits, labels) : null };
    });
  }

  startDecoding(options?: DecodingOptions): DecodingSession {
    return xlnetDecoding(this, options);
  }

  /** @internal */
  override clearCache(): void {
    super.clearCache();
    this.cache.clear();
  }

  protected override get architecture(): string {
    return 'XLNetLMHeadModel';
  }
}

export interface XLNetSequenceClassificationInputs extends XLNetInputs {
  labels?: ClassLabels;
}

export interface XLNetClassificationOutput extends XLNetOutput {
  /** [batch, numLabels]; of tokens [batch, L, numLabels]; of choices [batch, choices]. */
  logits: Tensor;
  /** A scalar; null without labels. */
  loss: Tensor | null;
}

/** Classification or regression of whole sequences. The default summary is the last token: pad on the left. */
export class XLNetForSequenceClassification extends XLNetWithHead {
  private readonly summary: SequenceSummary;
  private readonly projection: HeadProjection;

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { config, weights } = this;
    this.summary = summaryOf(weights, config);
    this.projection = new HeadProjection(weights, 'logits_proj', [config.numLabels, summaryWidth(config)], config);
  }

  /** As of the language model; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(
    nameOrPath: string,
    options: XLNetPretrainedOptions = {},
  ): Promise<XLNetForSequenceClassification> {
    return XLNetBase.load(
      nameOrPath,
      options,
      (config) => new XLNetForSequenceClassification(config, options),
      'transformer.',
      isHeadWeight,
    );
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: XLNetSequenceClassificationInputs): XLNetClassificationOutput {
    return scope(() => {
      const out = this.transformer.forward(inputs);
      const logits = this.projection.forward(this.summary.forward(out.lastHiddenState, this));
      const { numLabels, problemType } = this.config;
      const options = { numLabels, problemType, device: this.device };
      return { ...out, logits, loss: inputs.labels ? classificationLoss(logits, inputs.labels, options) : null };
    });
  }

  protected override get architecture(): string {
    return 'XLNetForSequenceClassification';
  }
}

export interface XLNetTokenClassificationInputs extends XLNetInputs {
  /** [batch, L]; -100 is ignored. */
  labels?: IdInput;
}

/** Classification of every token. */
export class XLNetForTokenClassification extends XLNetWithHead {
  private readonly classifier: HeadProjection;

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { numLabels, dModel } = this.config;
    this.classifier = new HeadProjection(this.weights, 'classifier', [numLabels, dModel], this.config);
  }

  /** As of the language model; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(
    nameOrPath: string,
    options: XLNetPretrainedOptions = {},
  ): Promise<XLNetForTokenClassification> {
    return XLNetBase.load(
      nameOrPath,
      options,
      (config) => new XLNetForTokenClassification(config, options),
      'transformer.',
      isHeadWeight,
    );
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: XLNetTokenClassificationInputs): XLNetClassificationOutput {
    return scope(() => {
      const { numLabels } = this.config;
      const labels = inputs.labels && idTensor('labels', inputs.labels, numLabels, this.device, ignoredLabel);
      const out = this.transformer.forward(inputs);
      const logits = this.classifier.forward(out.lastHiddenState);
      if (labels) requireShape('labels', labels, logits.shape.slice(0, 2));
      return { ...out, logits, loss: labels ? tokenLoss(logits, labels) : null };
    });
  }

  protected override get architecture(): string {
    return 'XLNetForTokenClassification';
  }
}

/** [batch, choices, L]: an int32 tensor or nested numbers. */
export type ChoiceInput = Tensor | readonly (readonly (readonly number[])[])[];

export interface XLNetMultipleChoiceInputs {
  inputIds?: ChoiceInput;
  /** [batch, choices, L, dModel], instead of inputIds. */
  inputsEmbeds?: Tensor;
  attentionMask?: Tensor | NestedArray;
  inputMask?: Tensor | NestedArray;
  tokenTypeIds?: ChoiceInput;
  headMask?: Tensor | null;
  mems?: XLNetInputs['mems'];
  useMems?: boolean;
  outputHiddenStates?: boolean;
  outputAttentions?: boolean;
  /** [batch]: the right choice. */
  labels?: readonly number[] | Tensor;
}

/** Which of several continuations fits: each choice is a sequence with a score. */
export class XLNetForMultipleChoice extends XLNetWithHead {
  private readonly summary: SequenceSummary;
  private readonly projection: HeadProjection;

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { config, weights } = this;
    this.summary = summaryOf(weights, config);
    this.projection = new HeadProjection(weights, 'logits_proj', [1, summaryWidth(config)], config);
  }

  /** As of the language model; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<XLNetForMultipleChoice> {
    return XLNetBase.load(
      nameOrPath,
      options,
      (config) => new XLNetForMultipleChoice(config, options),
      'transformer.',
      isHeadWeight,
    );
  }

  /** Enqueues a forward pass and returns at once. Sequences of the output are batch x choices. */
  forward(inputs: XLNetMultipleChoiceInputs): XLNetClassificationOutput {
    return scope(() => {
      const { labels, inputIds, inputsEmbeds, tokenTypeIds, attentionMask, inputMask, ...rest } = inputs;
      const choices = choiceCount(inputIds ?? inputsEmbeds);
      const out = this.transformer.forward({
        ...rest,
        ...(inputIds && { inputIds: flattenChoices('inputIds', inputIds) as IdInput }),
        ...(inputsEmbeds && { inputsEmbeds: flattenChoices('inputsEmbeds', inputsEmbeds) as Tensor }),
        ...(tokenTypeIds && { tokenTypeIds: flattenChoices('tokenTypeIds', tokenTypeIds) as IdInput }),
        ...(attentionMask && { attentionMask: flattenChoices('attentionMask', attentionMask) }),
        ...(inputMask && { inputMask: flattenChoices('inputMask', inputMask) }),
      });
      const scores = this.projection.forward(this.summary.forward(out.lastHiddenState, this));
      const logits = reshape(scores, [scores.size / choices, choices]);
      const options = {
        numLabels: choices,
        problemType: 'single_label_classification' as const,
        device: this.device,
      };
      return { ...out, logits, loss: labels ? classificationLoss(logits, labels, options) : null };
    });
  }

  protected override get architecture(): string {
    return 'XLNetForMultipleChoice';
  }
}

/** A freshly made head may be missing from a checkpoint. */
export function isHeadWeight(name: string): boolean {
  return !name.startsWith('transformer.');
}

function choiceCount(input: Tensor | NestedArray | undefined): number {
  const choices = input instanceof Tensor ? input.shape[1] : (input?.[0] as NestedArray | undefined)?.length;
  if (!choices) {
    throw new XlformersError('ERR_ARG_SHAPE', `inputIds: got ${describe(input)}, expected [batch, choices, length]`);
  }
  return choices;
}

/** [batch, choices, ...] to [batch choices, ...] */
function flattenChoices(name: string, input: Tensor | NestedArray): Tensor | NestedArray {
  if (!(input instanceof Tensor)) return (input as readonly NestedArray[]).flat(1) as NestedArray;
  if (input.shape.length < 3) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `${name}: got shape [${input.shape.join(', ')}], expected [batch, choices, ...]`,
    );
  }
  const [batch, choices, ...rest] = input.shape as [number, number, ...number[]];
  return reshape(input, [batch * choices, ...rest]);
}
