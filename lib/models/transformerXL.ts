/**
 * Transformer-XL (Dai et al. 2019), as transformers 4.57 has it in models/deprecated/transfo_xl/modeling_transfo_xl.py; where other
 * implementations differ, `config.compatibility` says whom to follow.
 */
import { isGradEnabled } from '../autograd';
import { XlformersError, describe } from '../errors';
import { AdaptiveEmbedding } from '../nn/adaptiveEmbedding';
import { FeedForward } from '../nn/feedForward';
import { Memory } from '../nn/memory';
import { MemoryRing } from '../nn/memoryRing';
import type { Initializer } from '../nn/parameters';
import { RelativeAttentionLayer } from '../nn/relativeAttentionLayer';
import type { AttentionBand } from '../ops/attentionBand';
import { requireInteger, requireSameKind, requireShape } from '../ops/checks';
import { dropout } from '../ops/dropout';
import { memoryUpdate } from '../ops/memoryUpdate';
import { appendToRings, type RingRows } from '../ops/ringAppend';
import { sinusoidPositions } from '../ops/sinusoidPositions';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import { compatibilityRules } from './compatibility';
import { headScales } from './headScales';
import { type IdInput, idTensor, inPrecision } from './inputs';
import { transformerXLWeightTerms } from './memoryEstimate';
import { type ModelOptions, PretrainedModel, type PretrainedOptions } from './pretrainedModel';
import {
  type TransformerXLConfig,
  type TransformerXLOptions,
  transformerXLConfig,
  transformerXLConfigFromFile,
  transformerXLConfigKeys,
  transformerXLConfigToFile,
} from './transformerXLConfig';

/** What every Transformer-XL takes. */
export interface TransformerXLInputs {
  /** [batch, length] */
  inputIds?: IdInput;
  /** [batch, length, dModel], instead of inputIds: what the embedding would give, scaled by sqrt(dModel) already. */
  inputsEmbeds?: Tensor;
  /**
   * The memory that the previous segment left, states as Hugging Face has them (by layer [length, batch, dModel]), 'zeros', 'empty',
   * or nothing: what config.compatibility starts with.
   */
  mems?: Memory | readonly Tensor[] | 'zeros' | 'empty' | undefined;
  /** [heads] or [layers, heads]: factor of each head's output. */
  headMask?: Tensor | null;
  /** Whether to return a memory. Default true. */
  useMems?: boolean;
  /** Default false. */
  outputHiddenStates?: boolean;
  /** Default false. */
  outputAttentions?: boolean;
}

export interface TransformerXLOutput {
  /** [batch, length, dModel] */
  lastHiddenState: Tensor;
  /** For the next segment; null when memLen is 0 or useMems is false. */
  mems: Memory | null;
  /** The embedding and each layer's output, [batch, length, dModel]; null unless asked for. */
  hiddenStates: Tensor[] | null;
  /** By layer, [batch, heads, query, key]; null unless asked for. */
  attentions: Tensor[] | null;
}

/** A model that others build on: configuration, memory length. */
export abstract class TransformerXLBase extends PretrainedModel {
  readonly config: TransformerXLConfig;

  protected constructor(options: TransformerXLOptions, modelOptions: ModelOptions) {
    super(modelOptions);
    this.config = transformerXLConfig(options);
    this.requireMemory(transformerXLWeightTerms(this.config));
  }

  /** The bare model inside. */
  protected abstract get body(): TransformerXLModel;

  /** Rows of memory that a forward pass leaves. */
  get memoryLength(): number {
    return this.body.currentMemoryLength;
  }

  /** Changes the rows of memory that forward passes leave; evaluation may remember more than training did. */
  resetMemoryLength(length: number): void {
    requireInteger('length', length, 0, 2 ** 31 - 1);
    this.body.currentMemoryLength = length;
  }

  /** @internal */
  clearCache(): void {
    this.body.clearCache();
  }

  /** The name of Hugging Face's class. */
  protected abstract get architecture(): string;

  protected override configFile(): Record<string, unknown> {
    return transformerXLConfigToFile({ ...this.config, memLen: this.memoryLength }, this.architecture);
  }

  protected static load<T extends TransformerXLBase>(
    nameOrPath: string,
    options: PretrainedOptions,
    make: (config: TransformerXLConfig) => T,
    prefix: string,
    optional?: (name: string) => boolean,
  ): Promise<T> {
    const keys = transformerXLConfigKeys;
    return PretrainedModel.loadFolder(nameOrPath, options, transformerXLConfigFromFile, keys, make, prefix, optional);
  }
}

/** The bare model: hidden states and memory. */
export class TransformerXLModel extends TransformerXLBase {
  /** @internal */
  readonly embedding: AdaptiveEmbedding;
  /** @internal */
  currentMemoryLength: number;
  private readonly attention: readonly RelativeAttentionLayer[];
  private readonly feedForward: readonly FeedForward[];
  private readonly owner: TransformerXLBase;

  /** @param owner @internal the model with a head that this one is the body of */
  constructor(options: TransformerXLOptions, modelOptions: ModelOptions = {}, owner?: TransformerXLBase) {
    super(options, modelOptions);
    this.owner = owner ?? this;
    const parameters = this.owner.weights;
    const prefix = owner ? 'transformer.' : '';
    const { config } = this;
    const { dModel, nHead: heads, dHead: headDim, dInner, preLnorm: preNorm, layerNormEpsilon: epsilon } = config;
    const weightInit = weightInitializer(config);
    const normInit: Initializer =
      compatibilityRules[config.compatibility].initialNorms === 'ones'
        ? { kind: 'constant', value: 1 }
        : { kind: 'normal', mean: 1, deviation: config.initStd };
    this.embedding = new AdaptiveEmbedding(parameters, `${prefix}word_emb.`, {
      ...config,
      weightInit,
      projectionInit: { kind: 'normal', mean: 0, deviation: config.projInitStd },
    });
    const sharedBiases = config.untieR
      ? null
      : {
          content: parameters.create(`${prefix}r_w_bias`, [heads, headDim], weightInit),
          position: parameters.create(`${prefix}r_r_bias`, [heads, headDim], weightInit),
        };
    const layers = Array.from({ length: config.nLayer }, (_, layer) => {
      const name = `${prefix}layers.${layer}.`;
      const attention = new RelativeAttentionLayer(parameters, `${name}dec_attn.`, {
        dModel,
        heads,
        headDim,
        dropout: config.dropout,
        attentionDropout: config.dropatt,
        preNorm,
        epsilon,
        weightInit,
        normInit,
        sharedBiases,
      });
      const options = { dModel, dInner, dropout: config.dropout, preNorm, epsilon, weightInit, normInit };
      return { attention, feedForward: new FeedForward(parameters, `${name}pos_ff.`, options) };
    });
    this.attention = layers.map(({ attention }) => attention);
    this.feedForward = layers.map(({ feedForward }) => feedForward);
    this.currentMemoryLength = config.memLen;
  }

  /** A folder or hub id with config.json and weights. @throws XlformersError ERR_FILE_*, ERR_CONFIG, ERR_CHECKPOINT_MISMATCH */
  static fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<TransformerXLModel> {
    return TransformerXLBase.load(nameOrPath, options, (config) => new TransformerXLModel(config, options), '');
  }

  /**
   * Enqueues a forward pass and returns at once.
   * @throws XlformersError naming the input that does not fit
   */
  forward(inputs: TransformerXLInputs): TransformerXLOutput {
    return scope(() => this.run(inputs));
  }

  /** @internal Whether steps over that memory may write to it as a ring: it is full, and its keys and values are those of the weights. */
  fillsRing({ length, keyValues, version, starts }: Memory | (MemoryRing & { starts?: null })): boolean {
    const { training, weights } = this.owner;
    const known = keyValues !== null && version === weights.version && !training;
    return known && length > 0 && length === this.currentMemoryLength && !starts;
  }

  /**
   * @internal A forward pass that leaves its rows in the ring.
   * @param inputIds int32 [batch, length], length at most the ring's
   * @returns [batch, length, dModel]
   */
  forwardRing(inputIds: Tensor, ring: MemoryRing): Tensor {
    return scope(() => this.run({ inputIds }, ring).lastHiddenState);
  }

  /** @internal */
  override clearCache(): void {
    for (const layer of [...this.attention, ...this.feedForward]) layer.clearCache();
  }

  protected override get body(): TransformerXLModel {
    return this;
  }

  protected override get architecture(): string {
    return 'TransfoXLModel';
  }

  private run(inputs: TransformerXLInputs, ring: MemoryRing | null = null): TransformerXLOutput {
    const { config, owner } = this;
    const { training, generator } = owner;
    const embedded = this.embed(inputs);
    const [batch, queryLength] = embedded.shape as [number, number, number];
    const memory = ring ? null : this.firstMemory(inputs.mems, batch);
    const memoryLength = (ring ?? memory)?.length ?? 0;
    const keyLength = memoryLength + queryLength;
    const scales = headScales(inputs.headMask ?? null, config.nLayer, config.nHead, owner.weights);
    const drop = (x: Tensor) => dropout(x, { probability: training ? config.dropout : 0, generator });
    const newLength = Math.min(this.currentMemoryLength, keyLength);
    const returnsMemory = !ring && inputs.useMems !== false && this.currentMemoryLength > 0;
    // Keys and values are worth keeping while the weights are fixed.
    const fixed = !training && !isGradEnabled();
    const version = fixed ? owner.weights.version : -1;
    const known = fixed && memory?.keyValues && memory.version === version ? memory.keyValues : null;

    const band = this.band(queryLength, keyLength);
    const memoryStarts = memory?.startsTensor() ?? null;
    const codes = (count: number) =>
      drop(
        sinusoidPositions({
          count,
          columns: config.dModel,
          clamp: config.clampLen,
          dtype: owner.weights.precision,
          device: owner.device,
        }),
      );
    // One set of codes, and of their dropout, for all layers of a training pass.
    const trainingCodes = fixed ? null : codes(keyLength);
    const positions = {
      count: keyLength,
      ample: Math.max(keyLength, this.currentMemoryLength + queryLength),
      codes: (count: number) => trainingCodes ?? codes(count),
    };

    let states = drop(embedded);
    const hidden: Tensor[] = [];
    const keyValues: Tensor[] = [];
    const attentions: Tensor[] = [];
    const hiddenStates = [states];
    const appended: RingRows[] = [];
    this.attention.forEach((layer, index) => {
      const entering = states;
      const before = memory?.hidden[index] ?? null;
      // What a layer makes on its way is free for the next one.
      const made = scope(() => {
        const remembered = returnsMemory ? memoryUpdate(before, entering, newLength) : null;
        const attended = layer.forward(entering, {
          memory: before,
          memoryKeyValues: known?.[index] ?? null,
          ring: ring && { keyValues: ring.keyValues[index] as Tensor, head: ring.head },
          positions,
          band,
          memoryStarts,
          headScale: scales[index] ?? null,
          training,
          generator,
          keepKeyValues: returnsMemory && fixed ? newLength : null,
          probabilities: inputs.outputAttentions === true,
        });
        const leaving = (this.feedForward[index] as FeedForward).forward(attended.output, { training, generator });
        const { keyValues, newKeyValues, probabilities } = attended;
        return { remembered, leaving, keyValues, newKeyValues, probabilities };
      });
      if (made.remembered) hidden.push(made.remembered);
      if (made.keyValues) keyValues.push(made.keyValues);
      if (made.probabilities) attentions.push(made.probabilities);
      states = made.leaving;
      if (inputs.outputHiddenStates) hiddenStates.push(states);
      else if (index > 0 && !ring) entering.dispose();
      if (ring && made.newKeyValues) {
        appended.push({ ring: ring.hidden[index] as Tensor, rows: entering });
        appended.push({ ring: ring.keyValues[index] as Tensor, rows: made.newKeyValues });
      }
    });
    // All at once: no layer reads another's, and one call moves the head that they share.
    if (ring) appendToRings(appended, { head: ring.head });
    const lastHiddenState = drop(states);
    hiddenStates[hiddenStates.length - 1] = lastHiddenState;
    return {
      lastHiddenState,
      mems: returnsMemory
        ? new Memory(hidden, fixed ? keyValues : null, version, memory?.startsAfter(queryLength, newLength))
        : null,
      hiddenStates: inputs.outputHiddenStates ? hiddenStates.map((state) => state.alias()) : null,
      attentions: inputs.outputAttentions ? attentions : null,
    };
  }

  private embed({ inputIds, inputsEmbeds }: TransformerXLInputs): Tensor {
    if (Boolean(inputIds) === Boolean(inputsEmbeds)) {
      throw new XlformersError('ERR_ARG_TYPE', 'inputIds, inputsEmbeds: expected one of the two');
    }
    const { weights } = this.owner;
    if (inputsEmbeds) {
      requireShape('inputsEmbeds', inputsEmbeds, [-1, -1, this.config.dModel]);
      const states = inPrecision(inputsEmbeds, weights.precision);
      requireSameKind('inputsEmbeds', states, weights.stateKind);
      return states;
    }
    return this.embedding.forward(idTensor('inputIds', inputIds as IdInput, this.config.vocabSize, weights.device));
  }

  /** The memory that this pass attends to; null for none. */
  private firstMemory(mems: TransformerXLInputs['mems'], batch: number): Memory | null {
    const { config, owner } = this;
    const { nLayer, dModel, compatibility } = config;
    const given = mems ?? compatibilityRules[compatibility].firstMemory;
    if (given === 'empty') return null;
    if (given === 'zeros') {
      if (this.currentMemoryLength === 0) return null;
      const shape = [batch, this.currentMemoryLength, dModel];
      // All layers may look at the same zeros.
      const zeros = Tensor.zeros(shape, owner.weights.stateKind);
      return new Memory(Array.from({ length: nLayer }, () => zeros.alias()));
    }
    const memory = given instanceof Memory ? given : isTensorList(given) ? this.memoryOf(given) : null;
    if (memory === null) {
      throw new XlformersError(
        'ERR_ARG_TYPE',
        `mems: got ${describe(given)}, expected a Memory, states by layer, 'zeros' or 'empty'`,
      );
    }
    if (memory.hidden.length !== nLayer) {
      throw new XlformersError('ERR_ARG_SHAPE', `mems: got ${memory.hidden.length} layers, expected ${nLayer}`);
    }
    memory.hidden.forEach((layer, index) => {
      requireSameKind(`mems[${index}]`, layer, owner.weights.stateKind);
      requireShape(`mems[${index}] as [batch, memoryLength, dModel]`, layer, [batch, memory.length, dModel]);
    });
    return memory;
  }

  private memoryOf(layers: readonly Tensor[]): Memory {
    return Memory.fromLayers(layers.map((layer) => inPrecision(layer, this.owner.weights.precision)));
  }

  private band(queryLength: number, keyLength: number): AttentionBand {
    const { sameLength, compatibility } = this.config;
    if (!sameLength) return {};
    const { sameLengthLower } = compatibilityRules[compatibility];
    return { lower: sameLengthLower(queryLength, keyLength, this.currentMemoryLength) };
  }
}

/** HF's `_init_weight`. */
export function weightInitializer({ init, initRange, initStd }: TransformerXLConfig): Initializer {
  return init === 'uniform'
    ? { kind: 'uniform', low: -initRange, high: initRange }
    : { kind: 'normal', mean: 0, deviation: initStd };
}

function isTensorList(value: unknown): value is readonly Tensor[] {
  return Array.isArray(value) && value.length > 0 && value.every((entry) => entry instanceof Tensor);
}
