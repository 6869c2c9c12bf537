import { updatableCopy } from '../nn/workingCopy';
import { adam, globalNorm } from '../ops/optimizer';
import { keep, scope } from '../scope';
import { type Parameter, Tensor } from '../tensor';

/** What weight decay is for: weights of two dimensions or more, or all. */
export type Decayed = 'matrices' | 'all';

export interface AdamSettings {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** Default 'matrices': biases and layer-norm weights, which have one dimension, do not decay, as is custom. */
  decayed?: Decayed;
  /** A weight's share of the learning rate. Default: 1 for all. */
  rateShare?: (name: string) => number;
  /** True: AdamW. */
  decoupled: boolean;
  /** Gradients are scaled down to this global norm; 0: never. */
  clipNorm: number;
}

/** Adam or AdamW over the parameters of a model, clipping included. */
export class Adam {
  private readonly moments = new Map<string, { first: Tensor; second: Tensor }>();

  constructor(
    private readonly parameters: ReadonlyMap<string, Parameter>,
    private readonly settings: AdamSettings,
  ) {
    for (const [name, { shape, dtype, device }] of parameters) {
      this.moments.set(name, {
        first: keep(Tensor.zeros(shape, { dtype: dtype as 'float32', device })),
        second: keep(Tensor.zeros(shape, { dtype: dtype as 'float32', device })),
      });
    }
  }

  /**
   * One step from the gradients the parameters hold. A step whose norm is not finite changes nothing.
   * @param step counts from 1, steps that changed nothing left out
   * @param scale what the loss was multiplied by. Default 1
   * @returns [norm, clip factor, finite flag], to be read and disposed by the caller
   */
  step(step: number, learningRate: number, scale = 1): Tensor {
    const { beta1, beta2, epsilon, decoupled, clipNorm, weightDecay, decayed, rateShare = () => 1 } = this.settings;
    const withGradient = [...this.parameters].filter(([, { grad }]) => grad !== null);
    const clip = globalNorm(
      withGradient.map(([, { grad }]) => grad as Tensor),
      clipNorm,
      scale,
    );
    const operands = withGradient.map(([name, parameter]) => {
      const { first, second } = this.moments.get(name) as { first: Tensor; second: Tensor };
      return {
        share: rateShare(name),
        parameter,
        gradient: parameter.grad as Tensor,
        firstMoment: first,
        secondMoment: second,
        weightDecay: decayed === 'all' || parameter.shape.length > 1 ? weightDecay : 0,
        copy: updatableCopy(parameter),
      };
    });
    // The operator has one rate for all of its tensors.
    for (const share of new Set(operands.map((operand) => operand.share))) {
      const tensors = operands.filter((operand) => operand.share === share);
      scope(() => adam({ beta1, beta2, epsilon, decoupled, step, learningRate: share * learningRate, clip, tensors }));
    }
    return clip;
  }

  zeroGrad(): void {
    for (const parameter of this.parameters.values()) parameter.zeroGrad();
  }

  /** The moments under checkpoint names: `<parameter>.m` and `<parameter>.v`. */
  *state(): Iterable<[name: string, moment: Tensor]> {
    for (const [name, { first, second }] of this.moments) {
      yield [`${name}.m`, first];
      yield [`${name}.v`, second];
    }
  }

  dispose(): void {
    for (const { first, second } of this.moments.values()) {
      first.dispose();
      second.dispose();
    }
    this.moments.clear();
  }
}
