import { isGradEnabled } from '../autograd';
import type { AttentionBand } from '../ops/attentionBand';
import { layerNorm } from '../ops/layerNorm';
import { linear } from '../ops/linear';
import { mapRows } from '../ops/mapRows';
import { memoryUpdate } from '../ops/memoryUpdate';
import { permutationAttention } from '../ops/permutationAttention';
import { reshape, slice } from '../ops/shape';
import type { Generator } from '../random';
import { keep } from '../scope';
import { type Parameter, Tensor } from '../tensor';
import { InferenceCache } from './inferenceCache';
import type { Initializer, Parameters } from './parameters';

export interface PermutationAttentionLayerOptions {
  dModel: number;
  heads: number;
  headDim: number;
  /** On the attention probabilities and on the output. */
  dropout: number;
  epsilon: number;
  weightInit: Initializer;
}

/** The projected keys and values of earlier states, [batch, memoryLength, heads headDim] each. */
export interface KeyValues {
  key: Tensor;
  value: Tensor;
}

/** Who sees whom, the same for all layers. */
export interface Visibility {
  band: AttentionBand;
  /** int32 [batch, length], both or none. */
  queryRanks: Tensor | null;
  keyRanks: Tensor | null;
  /** uint8 [batch, length, length] */
  mask: Tensor | null;
  /** uint8 [batch, length] */
  keyMask: Tensor | null;
  /** int32 [batch, length] */
  segments: Tensor | null;
  /** int32 [batch]: rows of memory before it are hidden; null: none. */
  memoryStarts: Tensor | null;
  reversedFrom: number;
}

/** Where the query stream's rows stand: at positions (int32 [batch, rows]), or mixed by a mapping [batch, rows, length]. */
export type Targets = { positions: Tensor } | { mapping: Tensor };

/** Distances [first, first + count). */
export interface DistanceRange {
  first: number;
  count: number;
}

/** Position codes [count, dModel]: made once per pass when training (they have dropout), kept projected at inference. */
export interface DistanceCodes {
  needed: DistanceRange;
  /** Worth computing at once, when the result will be kept. */
  ample: DistanceRange;
  codes(range: DistanceRange): Tensor;
}

export interface TwoStreamInputs {
  /** Query stream [batch, rows, dModel]; null: the content stream alone. */
  query: Tensor | null;
  targets: Targets | null;
  /** False: nothing reads the content stream's output. */
  needsContent: boolean;
  /** Earlier states [batch, memoryLength, dModel]; null: none. */
  memory: Tensor | null;
  /** Their keys and values, where they were kept. */
  memoryKeyValues: KeyValues | null;
  positions: DistanceCodes;
  visibility: Visibility;
  /** [heads] */
  headScale: Tensor | null;
  training: boolean;
  generator: Generator;
  /** Rows of this segment's start whose keys and values to hand on, and rows to hand on in all; null: do not keep them. */
  keepKeyValues: { current: number; length: number } | null;
  probabilities: boolean;
}

export interface TwoStreamResult {
  content: Tensor | null;
  query: Tensor | null;
  keyValues: KeyValues | null;
  /** [batch, heads, rows, key] of content and query stream; null unless asked for. */
  probabilities: { content: Tensor | null; query: Tensor | null } | null;
}

type ProjectionName = 'q' | 'k' | 'v' | 'o';

/** XLNet's attention with residual and layer norm, on one stream or two; checkpoint names of `rel_attn.`. */
export class PermutationAttentionLayer {
  private readonly projections: Record<ProjectionName, { weight: Parameter; cache: InferenceCache }>;
  private readonly positionProjection: Parameter;
  private readonly positionCache = new InferenceCache();
  private readonly contentBias: Parameter;
  private readonly positionBias: Parameter;
  private readonly segmentBias: Parameter;
  private readonly segmentEmbedding: Parameter;
  private readonly normWeight: Parameter;
  private readonly normBias: Parameter;

  constructor(
    private readonly parameters: Parameters,
    prefix: string,
    private readonly options: PermutationAttentionLayerOptions,
  ) {
    const { dModel, heads, headDim, weightInit } = options;
    const make = (name: string, shape: readonly number[]) => parameters.create(`${prefix}${name}`, shape, weightInit);
    const projection = (name: ProjectionName) => ({
      weight: make(name, [dModel, heads, headDim]),
      cache: new InferenceCache(),
    });
    this.projections = { q: projection('q'), k: projection('k'), v: projection('v'), o: projection('o') };
    this.positionProjection = make('r', [dModel, heads, headDim]);
    this.positionBias = make('r_r_bias', [heads, headDim]);
    this.segmentBias = make('r_s_bias', [heads, headDim]);
    this.contentBias = make('r_w_bias', [heads, headDim]);
    this.segmentEmbedding = make('seg_embed', [2, heads, headDim]);
    this.normWeight = parameters.create(`${prefix}layer_norm.weight`, [dModel], { kind: 'constant', value: 1 });
    this.normBias = parameters.create(`${prefix}layer_norm.bias`, [dModel], { kind: 'constant', value: 0 });
  }

  /** @param content [batch, length, dModel] */
  forward(content: Tensor, inputs: TwoStreamInputs): TwoStreamResult {
    const { memory, training, generator, visibility, needsContent, query, targets, keepKeyValues } = inputs;
    const fixed = !training && !isGradEnabled();
    const split = (x: Tensor) => this.splitHeads(x);
    const operand = (parameter: Parameter) => this.parameters.operand(parameter);
    const key = this.project('k', content, fixed);
    const value = this.project('v', content, fixed);
    const earlier = memory
      ? (inputs.memoryKeyValues ?? { key: this.project('k', memory, fixed), value: this.project('v', memory, fixed) })
      : null;
    const { table, first } = this.positions(inputs.positions, fixed);
    const queries = query && this.streamQueries(this.project('q', query, fixed), targets);
    const attention = permutationAttention({
      content: needsContent ? split(this.project('q', content, fixed)) : null,
      query: queries && split(queries),
      queryPositions: targets && 'positions' in targets ? targets.positions : null,
      key: split(key),
      value: split(value),
      memoryKey: earlier && split(earlier.key),
      memoryValue: earlier && split(earlier.value),
      position: table,
      firstDistance: first,
      contentBias: operand(this.contentBias),
      positionBias: operand(this.positionBias),
      segmentBias: visibility.segments && operand(this.segmentBias),
      segmentEmbedding: visibility.segments && operand(this.segmentEmbedding),
      ...visibility,
      headScale: inputs.headScale,
      dropout: training ? this.options.dropout : 0,
      generator,
    });
    const attended = attention.query && this.gatherTargets(attention.query, targets);
    return {
      content: attention.content && this.finish(attention.content, content, inputs, fixed),
      query: attended && this.finish(attended, query as Tensor, inputs, fixed),
      keyValues: keepKeyValues && keptKeyValues(earlier, { key, value }, keepKeyValues),
      probabilities: inputs.probabilities ? attention.probabilities() : null,
    };
  }

  clearCache(): void {
    for (const { cache } of Object.values(this.projections)) cache.clear();
    this.positionCache.clear();
  }

  /** [batch, rows, dModel] to [batch, rows, heads headDim]. */
  private project(name: ProjectionName, x: Tensor, fixed: boolean): Tensor {
    const { weight: parameter, cache } = this.projections[name];
    const weight = this.parameters.operand(parameter);
    const layout = name === 'o' ? 'outIn' : 'inOut';
    return linear(x, weight, { layout, packed: fixed ? cache.packed(weight, undefined, layout) : null });
  }

  private splitHeads(x: Tensor): Tensor {
    const { heads, headDim } = this.options;
    return reshape(x, [...x.shape.slice(0, 2), heads, headDim]);
  }

  private mergeHeads(x: Tensor): Tensor {
    const { heads, headDim } = this.options;
    return reshape(x, [...x.shape.slice(0, 2), heads * headDim]);
  }

  /** Queries at the rows of the sequence: those of a mapping are sums over the rows that map there. */
  private streamQueries(queries: Tensor, targets: Targets | null): Tensor {
    return targets && 'mapping' in targets ? mapRows(queries, targets.mapping, true) : queries;
  }

  private gatherTargets(attended: Tensor, targets: Targets | null): Tensor {
    if (!targets || 'positions' in targets) return attended;
    return this.splitHeads(mapRows(this.mergeHeads(attended), targets.mapping));
  }

  /** Output projection, dropout, residual and layer norm. */
  private finish(attended: Tensor, residual: Tensor, { training, generator }: TwoStreamInputs, fixed: boolean): Tensor {
    const { epsilon, dropout } = this.options;
    const [weight, bias] = [this.parameters.operand(this.normWeight), this.parameters.operand(this.normBias)];
    return layerNorm(this.project('o', this.mergeHeads(attended), fixed), weight, bias, {
      epsilon,
      residual,
      dropout: training ? dropout : 0,
      generator,
    });
  }

  /** r = R W_r by ascending distance, [distances, heads, headDim]. With fixed weights a longer table serves shorter lengths. */
  private positions({ needed, ample, codes }: DistanceCodes, fixed: boolean): { table: Tensor; first: number } {
    const { heads, headDim } = this.options;
    const project = (range: DistanceRange) => {
      const projected = linear(codes(range), this.parameters.operand(this.positionProjection), { layout: 'inOut' });
      return reshape(projected, [range.count, heads, headDim]);
    };
    if (!fixed) return { table: project(needed), first: needed.first };
    return this.positionCache.get(
      'positions',
      this.positionProjection.version,
      () => {
        const table = keep(project(ample));
        return { table, first: ample.first, count: ample.count, dispose: () => table.dispose() };
      },
      ({ first, count }) => first <= needed.first && first + count >= needed.first + needed.count,
    );
  }
}

/** The last rows of [earlier; the first rows of this segment]. */
function keptKeyValues(
  earlier: KeyValues | null,
  { key, value }: KeyValues,
  { current, length }: { current: number; length: number },
): KeyValues {
  const update = (old: Tensor | null, rows: Tensor) =>
    memoryUpdate(old, current === rows.shape[1] ? rows : slice(rows, 1, 0, current), length);
  return { key: update(earlier?.key ?? null, key), value: update(earlier?.value ?? null, value) };
}
