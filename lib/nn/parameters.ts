import type { Device } from '../device';
import type { FloatDType } from '../dtype';
import { XlformersError } from '../errors';
import { fillRandom } from '../ops/random';
import type { Generator } from '../random';
import { Parameter } from '../tensor';
import { native } from '../native';
import { dtypeDetail } from '../dtype';

/** How a weight starts. */
export type Initializer =
  | { kind: 'constant'; value: number }
  | { kind: 'normal'; mean: number; deviation: number }
  | { kind: 'uniform'; low: number; high: number };

/**
 * The weights of a model under their checkpoint names. Tied weights are one parameter: the map has each once, under the name that
 * Hugging Face saves; `names` also knows the others.
 */
export class Parameters {
  readonly map = new Map<string, Parameter>();
  private readonly aliases = new Map<string, Parameter>();

  constructor(
    readonly device: Device,
    readonly dtype: FloatDType,
    private readonly generator: Generator,
  ) {}

  create(name: string, shape: readonly number[], init: Initializer): Parameter {
    if (this.map.has(name)) throw new XlformersError('ERR_INTERNAL', `parameter '${name}' exists already`);
    const parameter = Parameter.create(name, shape, this.dtype, this.device);
    switch (init.kind) {
      case 'constant':
        native.fill({
          dtype: dtypeDetail(this.dtype).native,
          count: parameter.size,
          value: init.value,
          out: parameter.buffer,
        });
        break;
      case 'normal':
        fillRandom(parameter, { kind: 'normal', a: init.mean, b: init.deviation }, this.generator);
        break;
      case 'uniform':
        fillRandom(parameter, { kind: 'uniform', a: init.low, b: init.high }, this.generator);
        break;
    }
    this.map.set(name, parameter);
    return parameter;
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
