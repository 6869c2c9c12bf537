import type { Device } from '../device';
import type { FloatDType } from '../dtype';
import { XlformersError } from '../errors';
import { fillRandom } from '../ops/random';
import { Generator } from '../random';
import { Parameter, type Tensor } from '../tensor';
import { workingCopy } from './workingCopy';
import { native } from '../native';
import { dtypeDetail } from '../dtype';

/** How a weight starts. */
export type Initializer =
  | { kind: 'constant'; value: number }
  | { kind: 'normal'; mean: number; deviation: number }
  | { kind: 'uniform'; low: number; high: number };

let deferring = false;

/**
 * Makes a model whose weights stay without values, for the checkpoint that fills them: drawing a hundred million random numbers takes
 * longer than reading them. `initialiseRest` fills those that the checkpoint lacks, with what they would have had.
 */
export function withoutInitialValues<T>(make: () => T): T {
  deferring = true;
  try {
    return make();
  } finally {
    deferring = false;
  }
}

/**
 * The weights of a model under their checkpoint names. Tied weights are one parameter: the map has each once, under the name that
 * Hugging Face saves; `names` also knows the others.
 */
export class Parameters {
  readonly map = new Map<string, Parameter>();
  private readonly aliases = new Map<string, Parameter>();
  /** Weights without their initial values yet. */
  private readonly pending = new Map<Parameter, () => void>();
  private computesIn: FloatDType;

  constructor(
    readonly device: Device,
    readonly dtype: FloatDType,
    private readonly generator: Generator,
  ) {
    this.computesIn = dtype;
  }

  /** The type of states and of what operators take of the weights: `dtype`, or a 16-bit one in mixed precision. */
  get precision(): FloatDType {
    return this.computesIn;
  }

  set precision(precision: FloatDType) {
    if (precision !== this.computesIn) for (const parameter of this.map.values()) parameter.dropWorkingCopy();
    this.computesIn = precision;
  }

  /** Type and device of the model's states. */
  get stateKind(): { dtype: FloatDType; device: Device } {
    return { dtype: this.computesIn, device: this.device };
  }

  /** @internal A weight as operators take it. */
  operand(parameter: Parameter): Tensor {
    return workingCopy(parameter, this.computesIn);
  }

  create(name: string, shape: readonly number[], init: Initializer): Parameter {
    if (this.map.has(name)) throw new XlformersError('ERR_INTERNAL', `parameter '${name}' exists already`);
    const parameter = Parameter.create(name, shape, this.dtype, this.device);
    // Taken here even where it is used later or never: the numbers of one weight do not depend on the others.
    const fill = this.filler(parameter, init);
    if (deferring) this.pending.set(parameter, fill);
    else fill();
    this.map.set(name, parameter);
    return parameter;
  }

  private filler(parameter: Parameter, init: Initializer): () => void {
    if (init.kind === 'constant') {
      const { value } = init;
      const dtype = dtypeDetail(this.dtype).native;
      return () => native.fill({ dtype, count: parameter.size, value, out: parameter.buffer });
    }
    const [a, b] = init.kind === 'normal' ? [init.mean, init.deviation] : [init.low, init.high];
    const generator = Generator.from(this.generator.next());
    return () => fillRandom(parameter, { kind: init.kind, a, b }, generator);
  }

  /** @internal The weight gets its values from elsewhere. */
  initialised(parameter: Parameter): void {
    this.pending.delete(parameter);
  }

  /** @internal Gives initial values to the weights that have none. */
  initialiseRest(): void {
    for (const fill of this.pending.values()) fill();
    this.pending.clear();
  }

  /** Another name of a tied weight, which some checkpoints carry too. */
  alias(name: string, parameter: Parameter): Parameter {
    this.aliases.set(name, parameter);
    return parameter;
  }

  /** The parameter of that name, tied names included. */
  find(name: string): Parameter | undefined {
    return this.map.get(name) ?? this.aliases.get(name);
  }

  /** Changes whenever any weight does. */
  get version(): number {
    let sum = 0;
    for (const parameter of this.map.values()) sum += parameter.version;
    return sum;
  }

  dispose(): void {
    for (const parameter of this.map.values()) parameter.dispose();
  }
}
