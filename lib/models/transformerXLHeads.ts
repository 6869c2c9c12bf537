/** Transformer-XL with its heads: language model, sequence classification. */
import { resolveFiles } from '../checkpoints/hub';
import { modelFiles } from '../checkpoints/hubContents';
import { XlformersError } from '../errors';
import { AdaptiveSoftmaxHead } from '../nn/adaptiveSoftmaxHead';
import { meanNonzero } from '../ops/meanNonzero';
import { embedding } from '../ops/embedding';
import { linear } from '../ops/linear';
import { requireShape } from '../ops/checks';
import { reshape, slice } from '../ops/shape';
import { shiftLabels } from '../ops/shiftLabels';
import { scope } from '../scope';
import { type Parameter, Tensor } from '../tensor';
import { type ClassLabels, classificationLoss, ignoredLabel } from './classificationLoss';
import { compatibilityRules } from './compatibility';
import type { DecodingOptions, DecodingSession, GenerativeModel } from './decoding';
import { type IdInput, idTensor } from './inputs';
import { requireOriginalSettings } from './originalCheckpoints';
import { readModelConfig } from './pretrained';
import type { ModelOptions, PretrainedOptions } from './pretrainedModel';
import {
  TransformerXLBase,
  type TransformerXLInputs,
  TransformerXLModel,
  type TransformerXLOutput,
  weightInitializer,
} from './transformerXL';
import { type TransformerXLOptions, transformerXLConfigFromFile } from './transformerXLConfig';
import { transformerXLDecoding } from './transformerXLDecoding';

export interface LanguageModelInputs extends TransformerXLInputs {
  /** [batch, length], Hugging Face's way: position i predicts labels[i + 1], labels[0] is unused. -100 is ignored. */
  labels?: IdInput;
  /** [batch, length], the original's way: position i predicts targets[i]. -100 is ignored. Not together with labels. */
  targets?: IdInput;
}

export interface LanguageModelOutput extends TransformerXLOutput {
  /** Log-probabilities [batch, length, vocabSize]; null when labels or targets are given. */
  predictionScores: Tensor | null;
  /** Negative log-likelihoods in the order of positions: [batch, length - 1] for labels, [batch, length] for targets; else null. */
  losses: Tensor | null;
  /** Their mean over what is not ignored (a scalar); else null. */
  loss: Tensor | null;
}

/** The language model: adaptive softmax over the vocabulary. */
export class TransformerXLLMHeadModel extends TransformerXLBase implements GenerativeModel {
  readonly transformer: TransformerXLModel;
  private readonly head: AdaptiveSoftmaxHead;

  constructor(options: TransformerXLOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { config } = this;
    this.transformer = new TransformerXLModel(config, modelOptions, this);
    const preset = compatibilityRules[config.compatibility];
    this.head = new AdaptiveSoftmaxHead(this.weights, this.transformer.embedding, {
      ...config,
      tieWeights: config.tieWordEmbeddings,
      tieProjections: config.tieProjs,
      reversedClusters: preset.reversedClusters,
      weightInit: weightInitializer(config),
      clusterInit: preset.initialClusters === 'zeros' ? { kind: 'constant', value: 0 } : weightInitializer(config),
      projectionInit: { kind: 'normal', mean: 0, deviation: config.projInitStd },
    });
  }

  /**
   * A folder or hub id with config.json and weights. A `model.pt` of the original repository, or of NVIDIA's, must be a state dict, and
   * config.json say `"xlformers_compatibility": "pytorch-original"` (or "nvidia") and `"untie_r": false`.
   * @throws XlformersError ERR_FILE_*, ERR_CONFIG, ERR_CHECKPOINT_MISMATCH
   */
  static async fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<TransformerXLLMHeadModel> {
    const directory = await resolveFiles(nameOrPath, modelFiles, options);
    await requireOriginalSettings(directory, transformerXLConfigFromFile(await readModelConfig(directory)));
    return TransformerXLBase.load(
      directory,
      options,
      (config) => new TransformerXLLMHeadModel(config, options),
      'transformer.',
    );
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: LanguageModelInputs): LanguageModelOutput {
    return scope(() => {
      const { labels, targets } = inputs;
      if (labels && targets)
        throw new XlformersError('ERR_ARG_TYPE', 'labels, targets: expected at most one of the two');
      const given = labels ?? targets;
      const { vocabSize, dModel } = this.config;
      const ids = given && idTensor(labels ? 'labels' : 'targets', given, vocabSize, this.device, ignoredLabel);
      const out = this.transformer.forward(inputs);
      const [batch, length] = out.lastHiddenState.shape as [number, number, number];
      const rows = reshape(out.lastHiddenState, [batch * length, dModel]);
      if (!ids) {
        const scores = this.head.logProbabilities(rows);
        return { ...out, predictionScores: reshape(scores, [batch, length, vocabSize]), losses: null, loss: null };
      }
      requireShape(labels ? 'labels' : 'targets', ids, [batch, length]);
      const aligned = labels ? shiftLabels(ids, ignoredLabel) : ids;
      const losses = this.head.loss(rows, reshape(aligned, [batch * length]));
      const byPosition = reshape(losses, [batch, length]);
      return {
        ...out,
        predictionScores: null,
        losses: labels ? slice(byPosition, 1, 0, length - 1) : byPosition,
        loss: meanNonzero(losses),
      };
    });
  }

  startDecoding(options?: DecodingOptions): DecodingSession {
    const scoresOf = (states: Tensor) => this.head.logProbabilities(states);
    return transformerXLDecoding(this.transformer, scoresOf, options);
  }

  protected override get body(): TransformerXLModel {
    return this.transformer;
  }

  protected override get architecture(): string {
    return 'TransfoXLLMHeadModel';
  }
}

export interface SequenceClassificationInputs extends TransformerXLInputs {
  labels?: ClassLabels;
}

export interface SequenceClassificationOutput extends TransformerXLOutput {
  /** [batch, numLabels] */
  logits: Tensor;
  /** A scalar; null without labels. */
  loss: Tensor | null;
}

/** Classification of whole sequences by their last token before the padding. */
export class TransformerXLForSequenceClassification extends TransformerXLBase {
  readonly transformer: TransformerXLModel;
  private readonly score: Parameter;

  constructor(options: TransformerXLOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { config } = this;
    this.transformer = new TransformerXLModel(config, modelOptions, this);
    this.score = this.weights.create('score.weight', [config.numLabels, config.dModel], weightInitializer(config));
  }

  /** As of the language model; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(
    nameOrPath: string,
    options: PretrainedOptions = {},
  ): Promise<TransformerXLForSequenceClassification> {
    return TransformerXLBase.load(
      nameOrPath,
      options,
      (config) => new TransformerXLForSequenceClassification(config, options),
      'transformer.',
      (name) => name === 'score.weight',
    );
  }

  /**
   * Enqueues a forward pass and returns at once. With padTokenId set, ids must be given as rows of numbers, for their padding is
   * looked up here; without, the last position counts.
   */
  forward(inputs: SequenceClassificationInputs): SequenceClassificationOutput {
    return scope(() => {
      const out = this.transformer.forward(inputs);
      const [batch, length, dModel] = out.lastHiddenState.shape as [number, number, number];
      const last = this.lastPositions(inputs.inputIds, batch, length);
      const index = Tensor.from(
        Int32Array.from(last, (position, row) => row * length + position),
        [batch],
        { device: this.device },
      );
      const pooled = embedding(index, reshape(out.lastHiddenState, [batch * length, dModel]));
      const logits = linear(pooled, this.weights.operand(this.score));
      return {
        ...out,
        logits,
        loss: inputs.labels
          ? classificationLoss(logits, inputs.labels, {
              numLabels: this.config.numLabels,
              problemType: this.config.problemType,
              device: this.device,
            })
          : null,
      };
    });
  }

  protected override get body(): TransformerXLModel {
    return this.transformer;
  }

  protected override get architecture(): string {
    return 'TransfoXLForSequenceClassification';
  }

  /** HF's rule: the position before the first padding; the last one where there is none. */
  private lastPositions(inputIds: IdInput | undefined, batch: number, length: number): number[] {
    const { padTokenId } = this.config;
    if (padTokenId === null) {
      if (batch > 1) {
        throw new XlformersError(
          'ERR_CONFIG',
          'config.padTokenId: got null, expected an id where a batch has several rows',
        );
      }
      return [length - 1];
    }
    if (inputIds === undefined) return new Array<number>(batch).fill(length - 1);
    if (inputIds instanceof Tensor) {
      throw new XlformersError(
        'ERR_ARG_TYPE',
        'inputIds: got a tensor, expected rows of ids, in which padding can be looked up',
      );
    }
    return inputIds.map((row) => {
      const first = Math.max(0, Array.from(row).indexOf(padTokenId));
      return (first - 1 + length) % length;
    });
  }
}
