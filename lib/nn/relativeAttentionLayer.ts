import { isGradEnabled } from '../autograd';
import type { AttentionBand } from '../ops/attentionBand';
import { layerNorm } from '../ops/layerNorm';
import { linear } from '../ops/linear';
import { type ColumnRange, memoryUpdate } from '../ops/memoryUpdate';
import { packedRelativeAttention } from '../ops/relativeAttention';
import { reshape } from '../ops/shape';
import type { Generator } from '../random';
import { keep } from '../scope';
import type { Parameter, Tensor } from '../tensor';
import { InferenceCache } from './inferenceCache';
import type { Initializer, Parameters } from './parameters';

export interface RelativeAttentionLayerOptions {
  dModel: number;
  heads: number;
  headDim: number;
  /** On the output. */
  dropout: number;
  /** On the attention probabilities. */
  attentionDropout: number;
  /** Normalise the input instead of the sum. */
  preNorm: boolean;
  epsilon: number;
  weightInit: Initializer;
  normInit: Initializer;
  /** Position biases that all layers share; null: the layer has its own. */
  sharedBiases: { content: Parameter; position: Parameter } | null;
}

/** What a layer's forward pass reads besides the states. */
export interface AttentionInputs {
  /** Earlier states [batch, memoryLength, dModel]; null: none. */
  memory: Tensor | null;
  /** Their projected keys and values [batch, memoryLength, 2 heads headDim], where they were kept. */
  memoryKeyValues: Tensor | null;
  /** Instead of both: keys and values in a ring. */
  ring: { keyValues: Tensor; head: Tensor } | null;
  /** Position codes of `count` distances from 0 on [count, dModel], or a recipe for the cache to call. */
  positions: PositionCodes;
  band: AttentionBand;
  /** int32 [batch]: rows of memory before it do not count; null: all count. */
  memoryStarts: Tensor | null;
  /** [heads] */
  headScale: Tensor | null;
  training: boolean;
  generator: Generator;
  /** Rows of keys and values to hand on; null: do not keep them. */
  keepKeyValues: number | null;
  probabilities: boolean;
}

/** Position codes: made once per forward pass when training (they have dropout), per length at inference. */
export interface PositionCodes {
  /** Distances needed. */
  count: number;
  /** Distances worth computing at once, when the result will be kept. */
  ample: number;
  codes(count: number): Tensor;
}

export interface AttentionResult {
  output: Tensor;
  /** Those to hand on. */
  keyValues: Tensor | null;
  /** Those of `x`, for the caller to append to the ring; null without one. */
  newKeyValues: ColumnRange | null;
  /** [batch, heads, query, key] */
  probabilities: Tensor | null;
}

/** Multi-head relative attention with residual and layer norm; checkpoint names of `dec_attn.`. */
export class RelativeAttentionLayer {
  private readonly queryKeyValue: Parameter;
  private readonly output: Parameter;
  private readonly positionProjection: Parameter;
  private readonly normWeight: Parameter;
  private readonly normBias: Parameter;
  private readonly contentBias: Parameter;
  private readonly positionBias: Parameter;
  private readonly cache = new InferenceCache();
  private readonly outputCache = new InferenceCache();

  constructor(
    private readonly parameters: Parameters,
    prefix: string,
    private readonly options: RelativeAttentionLayerOptions,
  ) {
    const { dModel, heads, headDim, weightInit, normInit, sharedBiases } = options;
    const width = heads * headDim;
    this.queryKeyValue = parameters.create(`${prefix}qkv_net.weight`, [3 * width, dModel], weightInit);
    this.output = parameters.create(`${prefix}o_net.weight`, [dModel, width], weightInit);
    this.normWeight = parameters.create(`${prefix}layer_norm.weight`, [dModel], normInit);
    this.normBias = parameters.create(`${prefix}layer_norm.bias`, [dModel], { kind: 'constant', value: 0 });
    const own = (name: string) => parameters.create(`${prefix}${name}`, [heads, headDim], weightInit);
    this.contentBias = sharedBiases ? parameters.alias(`${prefix}r_w_bias`, sharedBiases.content) : own('r_w_bias');
    this.positionBias = sharedBiases ? parameters.alias(`${prefix}r_r_bias`, sharedBiases.position) : own('r_r_bias');
    this.positionProjection = parameters.create(`${prefix}r_net.weight`, [width, dModel], weightInit);
  }

  /** @param x [batch, length, dModel] */
  forward(x: Tensor, inputs: AttentionInputs): AttentionResult {
    const { heads, headDim, preNorm, dropout: probability, attentionDropout } = this.options;
    const { memory, ring, training, generator } = inputs;
    const [batch, length] = x.shape as [number, number, number];
    const width = heads * headDim;
    const fixed = !training && !isGradEnabled();
    const normed = preNorm ? this.norm(x) : x;
    const queryKeyValue = this.parameters.operand(this.queryKeyValue);
    const projected = linear(normed, queryKeyValue, { packed: fixed ? this.cache.packed(queryKeyValue) : null });
    const known = ring?.keyValues ?? inputs.memoryKeyValues;
    const memoryKeyValues = known ?? (memory && this.projectMemory(memory, queryKeyValue, fixed));
    const memoryLength = memoryKeyValues?.shape[1] ?? 0;
    const attention = packedRelativeAttention({
      queryKeyValue: reshape(projected, [batch, length, 3, heads, headDim]),
      memoryKeyValue: memoryKeyValues && reshape(memoryKeyValues, [batch, memoryLength, 2, heads, headDim]),
      position: this.positions(inputs.positions, fixed),
      contentBias: this.parameters.operand(this.contentBias),
      positionBias: this.parameters.operand(this.positionBias),
      headScale: inputs.headScale,
      band: inputs.band,
      memoryStarts: inputs.memoryStarts,
      memoryHead: ring?.head ?? null,
      dropout: training ? attentionDropout : 0,
      generator,
    });
    const newKeyValues = { tensor: projected, first: width, count: 2 * width };
    const outputWeight = this.parameters.operand(this.output);
    // Dropout and residual in the pass that has the sum at hand: the layer norm's, or the product's.
    const last = { residual: x, dropout: training ? probability : 0, generator };
    const attended = linear(reshape(attention.output, [batch, length, width]), outputWeight, {
      packed: fixed ? this.outputCache.packed(outputWeight) : null,
      ...(preNorm ? last : {}),
    });
    return {
      output: preNorm ? attended : this.norm(attended, last),
      keyValues:
        inputs.keepKeyValues === null ? null : memoryUpdate(memoryKeyValues, newKeyValues, inputs.keepKeyValues),
      newKeyValues: ring && newKeyValues,
      probabilities: inputs.probabilities ? attention.probabilities() : null,
    };
  }

  clearCache(): void {
    this.cache.clear();
    this.outputCache.clear();
  }

  private norm(x: Tensor, more: { residual?: Tensor; dropout?: number; generator?: Generator } = {}): Tensor {
    const [weight, bias] = [this.parameters.operand(this.normWeight), this.parameters.operand(this.normBias)];
    return layerNorm(x, weight, bias, { epsilon: this.options.epsilon, ...more });
  }

  /** Keys and values of the memory: the last two thirds of the projection. */
  private projectMemory(memory: Tensor, queryKeyValue: Tensor, fixed: boolean): Tensor {
    const width = this.options.heads * this.options.headDim;
    const rows = { first: width, count: 2 * width };
    return linear(this.options.preNorm ? this.norm(memory) : memory, queryKeyValue, {
      rows,
      packed: fixed ? this.cache.packed(queryKeyValue, rows) : null,
    });
  }

  /** r = W_r R by ascending distance, [distances, heads, headDim]. With fixed weights a longer table serves shorter lengths. */
  private positions({ count, ample, codes }: PositionCodes, fixed: boolean): Tensor {
    const { heads, headDim } = this.options;
    const project = (distances: number) =>
      reshape(linear(codes(distances), this.parameters.operand(this.positionProjection)), [distances, heads, headDim]);
    if (!fixed) return project(count);
    return this.cache.get(
      'positions',
      this.positionProjection.version,
      () => keep(project(ample)),
      (table) => (table.shape[0] as number) >= count,
    );
  }
}
