import { isGradEnabled } from '../autograd';
import { add } from '../ops/add';
import { dropout } from '../ops/dropout';
import { layerNorm } from '../ops/layerNorm';
import { linear } from '../ops/linear';
import type { Generator } from '../random';
import type { Parameter, Tensor } from '../tensor';
import { InferenceCache } from './inferenceCache';
import type { Initializer, Parameters } from './parameters';

export interface FeedForwardOptions {
  dModel: number;
  dInner: number;
  dropout: number;
  preNorm: boolean;
  epsilon: number;
  weightInit: Initializer;
  normInit: Initializer;
}

/** Two linear layers with a ReLU between, residual and layer norm; checkpoint names of `pos_ff.`. */
export class FeedForward {
  private readonly inner: { weight: Parameter; bias: Parameter };
  private readonly outer: { weight: Parameter; bias: Parameter };
  private readonly normWeight: Parameter;
  private readonly normBias: Parameter;
  private readonly innerCache = new InferenceCache();
  private readonly outerCache = new InferenceCache();

  constructor(
    parameters: Parameters,
    prefix: string,
    private readonly options: FeedForwardOptions,
  ) {
    const { dModel, dInner, weightInit, normInit } = options;
    const zero: Initializer = { kind: 'constant', value: 0 };
    this.inner = {
      weight: parameters.create(`${prefix}CoreNet.0.weight`, [dInner, dModel], weightInit),
      bias: parameters.create(`${prefix}CoreNet.0.bias`, [dInner], zero),
    };
    this.outer = {
      weight: parameters.create(`${prefix}CoreNet.3.weight`, [dModel, dInner], weightInit),
      bias: parameters.create(`${prefix}CoreNet.3.bias`, [dModel], zero),
    };
    this.normWeight = parameters.create(`${prefix}layer_norm.weight`, [dModel], normInit);
    this.normBias = parameters.create(`${prefix}layer_norm.bias`, [dModel], zero);
  }

  /** @param x [batch, length, dModel] */
  forward(x: Tensor, { training, generator }: { training: boolean; generator: Generator }): Tensor {
    const { preNorm, epsilon, dropout: probability } = this.options;
    const fixed = !training && !isGradEnabled();
    const rate = training ? probability : 0;
    const norm = (input: Tensor, more = {}) => layerNorm(input, this.normWeight, this.normBias, { epsilon, ...more });
    const activated = linear(preNorm ? norm(x) : x, this.inner.weight, {
      bias: this.inner.bias,
      activation: 'relu',
      packed: fixed ? this.innerCache.packed(this.inner.weight) : null,
    });
    const dropped = rate > 0 ? dropout(activated, { probability: rate, generator }) : activated;
    const out = linear(dropped, this.outer.weight, {
      bias: this.outer.bias,
      packed: fixed ? this.outerCache.packed(this.outer.weight) : null,
    });
    return preNorm
      ? add(x, dropout(out, { probability: rate, generator }))
      : norm(out, { residual: x, dropout: rate, generator });
  }

  clearCache(): void {
    this.innerCache.clear();
    this.outerCache.clear();
  }
}
