import { isGradEnabled } from '../autograd';
import type { Activation } from '../ops/activation';
import { layerNorm } from '../ops/layerNorm';
import { linear } from '../ops/linear';
import type { Generator } from '../random';
import type { Parameter, Tensor } from '../tensor';
import { InferenceCache } from './inferenceCache';
import type { Initializer, Parameters } from './parameters';

export interface FeedForwardOptions {
  dModel: number;
  dInner: number;
  /** Between the two layers. Default 'relu'. */
  activation?: Activation;
  /** Checkpoint names of the two layers. Default Transformer-XL's: 'CoreNet.0' and 'CoreNet.3'. */
  names?: { inner: string; outer: string };
  dropout: number;
  preNorm: boolean;
  epsilon: number;
  weightInit: Initializer;
  normInit: Initializer;
}

/** Two linear layers with an activation between, residual and layer norm; checkpoint names of `pos_ff.` or XLNet's `ff.`. */
export class FeedForward {
  private readonly inner: { weight: Parameter; bias: Parameter };
  private readonly outer: { weight: Parameter; bias: Parameter };
  private readonly normWeight: Parameter;
  private readonly normBias: Parameter;
  private readonly innerCache = new InferenceCache();
  private readonly outerCache = new InferenceCache();

  constructor(
    private readonly parameters: Parameters,
    prefix: string,
    private readonly options: FeedForwardOptions,
  ) {
    const { dModel, dInner, weightInit, normInit } = options;
    const { inner, outer } = options.names ?? { inner: 'CoreNet.0', outer: 'CoreNet.3' };
    const zero: Initializer = { kind: 'constant', value: 0 };
    this.inner = {
      weight: parameters.create(`${prefix}${inner}.weight`, [dInner, dModel], weightInit),
      bias: parameters.create(`${prefix}${inner}.bias`, [dInner], zero),
    };
    this.outer = {
      weight: parameters.create(`${prefix}${outer}.weight`, [dModel, dInner], weightInit),
      bias: parameters.create(`${prefix}${outer}.bias`, [dModel], zero),
    };
    this.normWeight = parameters.create(`${prefix}layer_norm.weight`, [dModel], normInit);
    this.normBias = parameters.create(`${prefix}layer_norm.bias`, [dModel], zero);
  }

  /** @param x [batch, length, dModel] */
  forward(x: Tensor, { training, generator }: { training: boolean; generator: Generator }): Tensor {
    const { preNorm, epsilon, dropout: probability, activation = 'relu' } = this.options;
    const fixed = !training && !isGradEnabled();
    const rate = training ? probability : 0;
    const operand = (parameter: Parameter) => this.parameters.operand(parameter);
    const norm = (input: Tensor, more = {}) =>
      layerNorm(input, operand(this.normWeight), operand(this.normBias), { epsilon, ...more });
    const inner = operand(this.inner.weight);
    const activated = linear(preNorm ? norm(x) : x, inner, {
      bias: operand(this.inner.bias),
      activation,
      dropout: rate,
      generator,
      packed: fixed ? this.innerCache.packed(inner) : null,
    });
    const outer = operand(this.outer.weight);
    // Dropout and residual in the pass that has the sum at hand: the layer norm's, or the product's.
    const last = { residual: x, dropout: rate, generator };
    const out = linear(activated, outer, {
      bias: operand(this.outer.bias),
      packed: fixed ? this.outerCache.packed(outer) : null,
      ...(preNorm ? last : {}),
    });
    return preNorm ? out : norm(out, last);
  }

  clearCache(): void {
    this.innerCache.clear();
    this.outerCache.clear();
  }
}
