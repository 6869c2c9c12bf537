/** XLNet (Yang et al. 2019), as transformers 4.57 has it in models/xlnet/modeling_xlnet.py. */
import { isGradEnabled } from '../autograd';
import { XlformersError, describe } from '../errors';
import { FeedForward } from '../nn/feedForward';
import { Memory } from '../nn/memory';
import type { Initializer } from '../nn/parameters';
import {
  type DistanceCodes,
  type DistanceRange,
  type KeyValues,
  PermutationAttentionLayer,
  type Targets,
  type Visibility,
} from '../nn/permutationAttentionLayer';
import { requireInteger, requireSameKind, requireShape } from '../ops/checks';
import { dropout } from '../ops/dropout';
import { embedding } from '../ops/embedding';
import { memoryUpdate } from '../ops/memoryUpdate';
import { reshape, slice } from '../ops/shape';
import { sinusoidPositions } from '../ops/sinusoidPositions';
import { scope } from '../scope';
import { type Parameter, Tensor } from '../tensor';
import type { NestedArray } from '../tensorData';
import { compatibilityRules } from './compatibility';
import { headScales } from './headScales';
import { type IdInput, idTensor, inPrecision } from './inputs';
import { xlnetWeightTerms } from './memoryEstimate';
import { type ModelOptions, PretrainedModel, type PretrainedOptions } from './pretrainedModel';
import { feedForwardActivation, type XLNetConfig, type XLNetOptions } from './xlnetConfig';
import { xlnetConfig, xlnetConfigFromFile, xlnetConfigKeys, xlnetConfigToFile } from './xlnetConfig';
import { hidingMask, integerTensor, type MaskInput, requireOneOf, targetMapping } from './xlnetInputs';

/** What every XLNet takes. L: length of the segment, P: rows of the query stream. */
export interface XLNetInputs {
  /** [batch, L] */
  inputIds?: IdInput;
  /** [batch, L, dModel], instead of inputIds. */
  inputsEmbeds?: Tensor;
  /** [batch, L]: 1 for tokens, 0 for padding. */
  attentionMask?: MaskInput;
  /** [batch, L], instead of attentionMask: 1 for padding. */
  inputMask?: MaskInput;
  /** The memory that the previous segment left, or states as Hugging Face has them (by layer [length, batch, dModel]). */
  mems?: Memory | readonly Tensor[] | undefined;
  /** [batch, L, L]: 1 at [p, c] hides token c from position p. */
  permMask?: MaskInput;
  /**
   * A factorization order without a matrix, [batch, L] both: token c is hidden from position p when keyRanks[c] >= queryRanks[p]. With
   * equal ranks a position sees what comes before it in the order; every content row sees itself. Ranks are >= 0.
   */
  queryRanks?: IdInput;
  keyRanks?: IdInput;
  /** [batch, P, L]: the positions to predict, by the query stream. One-hot rows given as numbers take the fast way of targetPositions. */
  targetMapping?: Tensor | NestedArray;
  /** [batch, P], instead of targetMapping: the position of each row of the query stream, -1 for padding. */
  targetPositions?: IdInput;
  /** [batch, L]: segments. */
  tokenTypeIds?: IdInput;
  /** [heads] or [layers, heads]: factor of each head's output. */
  headMask?: Tensor | null;
  /** Whether to return a memory. Default: config.useMemsEval, or useMemsTrain in training. */
  useMems?: boolean;
  /** Rows from the segment's start that enter the memory. Default: config.reuseLen. */
  reuseLen?: number;
  /** The second half of the batch holds reversed sequences. Default: config.biData. */
  biData?: boolean;
  /** Default false. */
  outputHiddenStates?: boolean;
  /** Default false. */
  outputAttentions?: boolean;
}

export interface XLNetOutput {
  /** Of the query stream [batch, P, dModel] where there are targets, else of the content stream [batch, L, dModel]. */
  lastHiddenState: Tensor;
  /** For the next segment; null without useMems. */
  mems: Memory | null;
  /** The embedding and each layer's output, [batch, L, dModel]; null unless asked for. */
  hiddenStates: Tensor[] | null;
  /** The same of the query stream, [batch, P, dModel]; null without targets. */
  queryHiddenStates: Tensor[] | null;
  /** By layer, [batch, heads, L, key]; null unless asked for. */
  attentions: Tensor[] | null;
  /** Of the query stream, [batch, heads, P, key], or [batch, heads, L, key] for a target mapping. */
  queryAttentions: Tensor[] | null;
}

export interface XLNetPretrainedOptions extends PretrainedOptions {
  /**
   * Fields that shall differ from the checkpoint's config.json, such as dropout. With `labelNames` or `numLabels`, a head of
   * another size in the checkpoint is left aside.
   */
  config?: XLNetOptions;
}

/** A model that others build on. */
export abstract class XLNetBase extends PretrainedModel {
  readonly config: XLNetConfig;

  protected constructor(options: XLNetOptions, modelOptions: ModelOptions) {
    super(modelOptions);
    this.config = xlnetConfig(options);
    this.requireMemory(xlnetWeightTerms(this.config));
  }

  /** The bare model inside. */
  protected abstract get body(): XLNetModel;

  /** The name of Hugging Face's class. */
  protected abstract get architecture(): string;

  /** Rows of memory that a forward pass leaves; null: everything that it saw. */
  get memoryLength(): number | null {
    return this.body.currentMemoryLength;
  }

  /** Changes the rows of memory that forward passes leave. */
  resetMemoryLength(length: number | null): void {
    if (length !== null) requireInteger('length', length, 0, 2 ** 31 - 1);
    this.body.currentMemoryLength = length === 0 ? null : length;
  }

  /** @internal */
  clearCache(): void {
    this.body.clearCache();
  }

  protected override configFile(): Record<string, unknown> {
    return xlnetConfigToFile({ ...this.config, memLen: this.memoryLength }, this.architecture);
  }

  protected static load<T extends XLNetBase>(
    nameOrPath: string,
    options: XLNetPretrainedOptions,
    make: (config: XLNetConfig) => T,
    prefix: string,
    optional?: (name: string) => boolean,
  ): Promise<T> {
    const { config: changes } = options;
    const readConfig = (file: Record<string, unknown>) => changedConfig(xlnetConfigFromFile(file), changes);
    const replaced = keepsLabels(changes) ? undefined : optional;
    return PretrainedModel.loadFolder(
      nameOrPath,
      options,
      readConfig,
      xlnetConfigKeys,
      make,
      prefix,
      optional,
      replaced,
    );
  }
}

function keepsLabels(changes: XLNetOptions = {}): boolean {
  return changes.numLabels === undefined && changes.labelNames === undefined;
}

/** New labels bring their number, a new number of labels no names. */
function changedConfig(config: XLNetConfig, changes: XLNetOptions | undefined): XLNetConfig {
  const { numLabels, labelNames, ...rest } = config;
  return xlnetConfig({ ...rest, ...(keepsLabels(changes) ? { numLabels, labelNames } : {}), ...changes });
}

/** HF's `_init_weights`. */
export function xlnetInitializer({ initializerRange }: XLNetConfig): Initializer {
  return { kind: 'normal', mean: 0, deviation: initializerRange };
}

/** The bare model: hidden states of both streams and memory. */
export class XLNetModel extends XLNetBase {
  /** @internal */
  readonly wordEmbedding: Parameter;
  /** @internal null: everything. */
  currentMemoryLength: number | null;
  private readonly maskEmbedding: Parameter;
  private readonly attention: readonly PermutationAttentionLayer[];
  private readonly feedForward: readonly FeedForward[];
  private readonly owner: XLNetBase;

  /** @param owner @internal the model with a head that this one is the body of */
  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}, owner?: XLNetBase) {
    super(options, modelOptions);
    this.owner = owner ?? this;
    const { config } = this;
    const { weights } = this.owner;
    const prefix = owner ? 'transformer.' : '';
    const { dModel, dInner, nHead: heads, layerNormEps: epsilon, dropout: rate } = config;
    const weightInit = xlnetInitializer(config);
    this.maskEmbedding = weights.create(`${prefix}mask_emb`, [1, 1, dModel], weightInit);
    this.wordEmbedding = weights.create(`${prefix}word_embedding.weight`, [config.vocabSize, dModel], weightInit);
    const layers = Array.from({ length: config.nLayer }, (_, layer) => {
      const name = `${prefix}layer.${layer}.`;
      const headDim = dModel / heads;
      return {
        attention: new PermutationAttentionLayer(weights, `${name}rel_attn.`, {
          dModel,
          heads,
          headDim,
          dropout: rate,
          epsilon,
          weightInit,
        }),
        feedForward: new FeedForward(weights, `${name}ff.`, {
          dModel,
          dInner,
          activation: feedForwardActivation(config),
          names: { inner: 'layer_1', outer: 'layer_2' },
          dropout: rate,
          preNorm: false,
          epsilon,
          weightInit,
          normInit: { kind: 'constant', value: 1 },
        }),
      };
    });
    this.attention = layers.map(({ attention }) => attention);
    this.feedForward = layers.map(({ feedForward }) => feedForward);
    this.currentMemoryLength = config.memLen === 0 ? null : config.memLen;
  }

  /** A folder or hub id with config.json and weights. @throws XlformersError ERR_FILE_*, ERR_CONFIG, ERR_CHECKPOINT_MISMATCH */
  static fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<XLNetModel> {
    return XLNetBase.load(nameOrPath, options, (config) => new XLNetModel(config, options), '');
  }

  /**
   * Enqueues a forward pass and returns at once.
   * @throws XlformersError naming the input that does not fit
   */
  forward(inputs: XLNetInputs): XLNetOutput {
    return scope(() => this.run(inputs));
  }

  /** @internal */
  override clearCache(): void {
    for (const layer of [...this.attention, ...this.feedForward]) layer.clearCache();
  }

  protected override get body(): XLNetModel {
    return this;
  }

  protected override get architecture(): string {
    return 'XLNetModel';
  }

  private run(inputs: XLNetInputs): XLNetOutput {
    const { config, owner } = this;
    const { training, generator } = owner;
    const embedded = this.embed(inputs);
    const [batch, length] = embedded.shape as [number, number, number];
    const memory = this.memory(inputs.mems, batch);
    const memoryLength = memory?.length ?? 0;
    const visibility = this.visibility(inputs, batch, length, memory);
    const targets = this.targets(inputs, batch, length);
    const scales = headScales(inputs.headMask ?? null, config.nLayer, config.nHead, owner.weights);
    const drop = (x: Tensor) => dropout(x, { probability: training ? config.dropout : 0, generator });
    const fixed = !training && !isGradEnabled();
    const version = fixed ? owner.weights.version : -1;
    const known = fixed && memory?.keyValues && memory.version === version ? memory.keyValues : null;
    const kept = this.keptRows(inputs, memoryLength, length);
    const everything = inputs.outputHiddenStates === true || inputs.outputAttentions === true;

    let content: Tensor | null = drop(embedded);
    let query = targets && drop(this.queryEmbedding(batch, targets));
    const backwards = inputs.biData ?? config.biData;
    const positions = this.distances(length, memoryLength, backwards, training || !fixed ? drop : null);
    const hidden: Tensor[] = [];
    const keyValues: Tensor[] = [];
    const states = { content: [content], query: query ? [query] : [] };
    const attentions = { content: [] as Tensor[], query: [] as Tensor[] };
    this.attention.forEach((layer, index) => {
      const before = memory?.hidden[index] ?? null;
      const entering = { content: content as Tensor, query };
      // What a layer makes on its way is free for the next one.
      const made = scope(() => {
        const remembering = kept ? remembered(before, entering.content, kept) : null;
        const { content, query, keyValues, probabilities } = layer.forward(entering.content, {
          query: entering.query,
          targets,
          // Nothing reads the last layer's content stream once the query stream has its keys.
          needsContent: entering.query === null || everything || index < config.nLayer - 1,
          memory: before,
          memoryKeyValues: known && layerKeyValues(known, index),
          positions,
          visibility,
          headScale: scales[index] ?? null,
          training,
          generator,
          keepKeyValues: kept && fixed ? kept : null,
          probabilities: inputs.outputAttentions === true,
        });
        const feedForward = this.feedForward[index] as FeedForward;
        const finish = (x: Tensor | null) => x && feedForward.forward(x, { training, generator });
        return { remembering, content: finish(content), query: finish(query), keyValues, probabilities };
      });
      if (made.remembering) hidden.push(made.remembering);
      if (made.keyValues) keyValues.push(made.keyValues.key, made.keyValues.value);
      if (made.probabilities?.content) attentions.content.push(made.probabilities.content);
      if (made.probabilities?.query) attentions.query.push(made.probabilities.query);
      ({ content, query } = made);
      if (inputs.outputHiddenStates) {
        if (content) states.content.push(content);
        if (query) states.query.push(query);
      } else if (index > 0) {
        entering.content.dispose();
        entering.query?.dispose();
      }
    });
    const aliases = (list: Tensor[]) => (inputs.outputHiddenStates ? list.map((state) => state.alias()) : null);
    return {
      lastHiddenState: drop((query ?? content) as Tensor),
      mems: kept
        ? new Memory(hidden, fixed ? keyValues : null, version, memory?.startsAfter(kept.current, kept.length))
        : null,
      hiddenStates: aliases(states.content),
      queryHiddenStates: targets ? aliases(states.query) : null,
      attentions: inputs.outputAttentions ? attentions.content : null,
      queryAttentions: inputs.outputAttentions && targets ? attentions.query : null,
    };
  }

  private embed({ inputIds, inputsEmbeds }: XLNetInputs): Tensor {
    const { weights } = this.owner;
    if (Boolean(inputIds) === Boolean(inputsEmbeds)) {
      throw new XlformersError('ERR_ARG_TYPE', 'inputIds, inputsEmbeds: expected one of the two');
    }
    if (inputsEmbeds) {
      requireShape('inputsEmbeds', inputsEmbeds, [-1, -1, this.config.dModel]);
      const states = inPrecision(inputsEmbeds, weights.precision);
      requireSameKind('inputsEmbeds', states, weights.stateKind);
      return states;
    }
    const ids = idTensor('inputIds', inputIds as IdInput, this.config.vocabSize, this.owner.device);
    return embedding(ids, weights.operand(this.wordEmbedding));
  }

  /** The query stream starts as the same vector everywhere. */
  private queryEmbedding(batch: number, targets: Targets): Tensor {
    const rows = ('positions' in targets ? targets.positions : targets.mapping).shape[1] as number;
    const zeros = Tensor.zeros([batch, rows], { dtype: 'int32', device: this.owner.device });
    return embedding(zeros, reshape(this.owner.weights.operand(this.maskEmbedding), [1, this.config.dModel]));
  }

  private memory(mems: XLNetInputs['mems'], batch: number): Memory | null {
    const { nLayer, dModel } = this.config;
    if (mems === undefined || mems === null) return null;
    const isList = Array.isArray(mems) && mems.every((entry) => entry instanceof Tensor);
    if (!(mems instanceof Memory) && !isList) {
      throw new XlformersError('ERR_ARG_TYPE', `mems: got ${describe(mems)}, expected a Memory or states by layer`);
    }
    const { weights } = this.owner;
    const memory =
      mems instanceof Memory
        ? mems
        : Memory.fromLayers((mems as readonly Tensor[]).map((layer) => inPrecision(layer, weights.precision)));
    if (memory.hidden.length !== nLayer) {
      throw new XlformersError('ERR_ARG_SHAPE', `mems: got ${memory.hidden.length} layers, expected ${nLayer}`);
    }
    memory.hidden.forEach((layer, index) => {
      requireSameKind(`mems[${index}]`, layer, weights.stateKind);
      requireShape(`mems[${index}] as [batch, memoryLength, dModel]`, layer, [batch, memory.length, dModel]);
    });
    return memory.length > 0 ? memory : null;
  }

  private visibility(inputs: XLNetInputs, batch: number, length: number, memory: Memory | null): Visibility {
    const { attnType, sameLength, biData } = this.config;
    const { device } = this.owner;
    requireOneOf('attentionMask', inputs.attentionMask, 'inputMask', inputs.inputMask);
    const backwards = inputs.biData ?? biData;
    const shape = [batch, length];
    const padding = inputs.attentionMask ?? inputs.inputMask;
    const integers = (name: 'queryRanks' | 'keyRanks' | 'tokenTypeIds') =>
      inputs[name] === undefined ? null : integerTensor(name, inputs[name], shape, device);
    if (backwards && batch % 2 !== 0) {
      throw new XlformersError('ERR_ARG_SHAPE', `inputIds: got ${batch} rows, expected an even number with biData`);
    }
    return {
      band: attnType === 'uni' ? { upper: 0, lower: sameLength ? 0 : null } : { upper: Infinity },
      queryRanks: integers('queryRanks'),
      keyRanks: integers('keyRanks'),
      mask: inputs.permMask ? hidingMask('permMask', inputs.permMask, [batch, length, length], device) : null,
      keyMask: padding
        ? hidingMask(
            inputs.inputMask ? 'inputMask' : 'attentionMask',
            padding,
            shape,
            device,
            inputs.attentionMask !== undefined,
          )
        : null,
      segments: integers('tokenTypeIds'),
      memoryStarts: memory?.startsTensor() ?? null,
      reversedFrom: backwards ? batch / 2 : batch,
    };
  }

  private targets(inputs: XLNetInputs, batch: number, length: number): Targets | null {
    requireOneOf('targetMapping', inputs.targetMapping, 'targetPositions', inputs.targetPositions);
    const { device, precision } = this.owner.weights;
    if (inputs.targetPositions) {
      return { positions: integerTensor('targetPositions', inputs.targetPositions, [batch, -1], device) };
    }
    if (!inputs.targetMapping) return null;
    // Hugging Face's query attentions have a row for every position.
    return targetMapping(inputs.targetMapping, [batch, length], precision, device, inputs.outputAttentions === true);
  }

  /** What of this segment and of all enters the memory; null: no memory is returned. */
  private keptRows(
    inputs: XLNetInputs,
    memoryLength: number,
    length: number,
  ): { current: number; length: number } | null {
    const { config, owner, currentMemoryLength } = this;
    if (!(inputs.useMems ?? (owner.training ? config.useMemsTrain : config.useMemsEval))) return null;
    if (currentMemoryLength === null && compatibilityRules[config.compatibility].unlimitedMemory === 'nothing')
      return null;
    const reuse = inputs.reuseLen ?? config.reuseLen ?? 0;
    requireInteger('reuseLen', reuse, 0);
    const current = reuse > 0 ? Math.min(reuse, length) : length;
    return { current, length: Math.min(currentMemoryLength ?? Infinity, memoryLength + current) };
  }

  /** @param drop dropout of one set of codes for all layers; null at inference, where projections are kept */
  private distances(
    length: number,
    memoryLength: number,
    biData: boolean,
    drop: ((x: Tensor) => Tensor) | null,
  ): DistanceCodes {
    const { dModel, clampLen, attnType } = this.config;
    const { dtype, device } = this.owner.weights.stateKind;
    const keys = memoryLength + length;
    const range = (farthest: number): DistanceRange => {
      const behind = biData ? farthest : attnType === 'bi' ? length : 1;
      return { first: 1 - behind, count: farthest + behind - 1 };
    };
    const codes = ({ first, count }: DistanceRange) =>
      sinusoidPositions({ count, columns: dModel, firstDistance: first, clamp: clampLen, dtype, device });
    const needed = range(keys);
    const shared = drop?.(codes(needed));
    // A growing memory is met with tables that double.
    const ample = range(2 ** Math.ceil(Math.log2(Math.max(keys, 64))));
    return { needed, ample, codes: (wanted) => shared ?? codes(wanted) };
  }
}

/** The last rows of [before; the first rows of this segment]. */
function remembered(
  before: Tensor | null,
  states: Tensor,
  { current, length }: { current: number; length: number },
): Tensor {
  const rows = current === states.shape[1] ? states : slice(states.detach(), 1, 0, current);
  return memoryUpdate(before, rows, length);
}

/** Keys and values of a layer; a memory lists them in turn. */
function layerKeyValues(list: readonly Tensor[], layer: number): KeyValues {
  return { key: list[2 * layer] as Tensor, value: list[2 * layer + 1] as Tensor };
}
