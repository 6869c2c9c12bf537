import { native, type NativeBuffer } from '../../lib/native';
import { operatorNames } from '../../lib/nativeOperators';
import { TestRandom } from '../support/random';
import { operatorCalls } from './support/operatorCalls';
import { call, type OperatorName, type Options, Workbench } from './support/workbench';
import { branchPaths, leafPaths, type Path, valueAt, withValue } from './support/paths';

const casesPerOperator = 200;

/** Integers around the edges of what a size, an int32 and a double can be. */
const edges = [-1, 0, 1, 2, 3, 5, 7, 8, 16, 17, 64, 255, 256, 257, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 2 ** 52, 2 ** 53 - 1, 2 ** 53];

class Mutator {
  private readonly random: TestRandom;
  private readonly other = new Workbench();

  constructor(
    seed: number,
    private readonly bench: Workbench,
  ) {
    this.random = new TestRandom(seed);
  }

  mutate(options: Options): Options {
    let result = options;
    for (let count = this.random.integer(1, 4); count > 0; count -= 1) result = this.mutateOnce(result);
    return result;
  }

  private mutateOnce(options: Options): Options {
    const branches = branchPaths(options);
    const path = branches.length > 0 && this.random.uniform() < 0.1 ? this.random.pick(branches) : this.random.pick(leafPaths(options));
    return withValue(options, path, this.replacement(options, path));
  }

  private replacement(options: Options, path: Path): unknown {
    const value = valueAt(options, path);
    if (this.random.uniform() < 0.1) return this.anything(options);
    switch (typeof value) {
      case 'number':
        return this.random.pick<() => number>([
          () => this.random.pick(edges),
          () => value + this.random.integer(-2, 2),
          () => -value,
          () => value * this.random.pick([0.5, 2, 3, 1e10, 1e300]),
          () => this.random.pick([NaN, Infinity, -Infinity, -0, 0.5, 1e-320]),
        ])();
      case 'boolean':
        return !value;
      case 'string':
        return this.random.pick(['f32', 'f64', 'bf16', 'f16', 'i32', 'u8', 'none', 'gelu', 'tanh', 'uniform', 'normal', '']);
      default:
        return this.handle(options);
    }
  }

  private handle(options: Options): unknown {
    return this.random.pick<() => unknown>([
      () => null,
      () => this.bench.floats(this.random.integer(0, 64)),
      () => this.bench.ids([2 ** 31 - 1, -(2 ** 31), 7, -100, -1, 0]),
      () => this.other.floats(8),
      () => this.released(),
      () => native.view(this.bench.bytes(256), this.random.integer(0, 128), this.random.integer(0, 128)),
      () => valueAt(options, this.random.pick(leafPaths(options))),
    ])();
  }

  private anything(options: Options): unknown {
    const victim = this.bench.floats(64);
    return this.random.pick<() => unknown>([
      () => undefined,
      () => this.random.pick(['5', 5n, Symbol('x'), true, {}, [], [[]], new Array(7), new Float32Array(8), () => 1]),
      () => new Proxy(options, {}),
      () => options,
      () => victim,
      () => ({
        get length() {
          native.release(victim);
          return 2;
        },
      }),
    ])();
  }

  private released(): NativeBuffer {
    const buffer = native.allocate(this.bench.device, 64);
    native.release(buffer);
    return buffer;
  }
}

/** Whatever an operator is called with: it refuses, or runs inside its buffers. */
test.each(operatorNames.map((name, index) => [name, index + 1] as [OperatorName, number]))(
  '%s (seed %d)',
  async (name, seed) => {
    const bench = new Workbench();
    const mutator = new Mutator(seed, bench);
    let accepted = 0;
    for (let index = 0; index < casesPerOperator; index += 1) {
      const options = mutator.mutate(operatorCalls[name](bench));
      try {
        call(name, options);
        accepted += 1;
      } catch (error) {
        expect(error).toMatchObject({ name: 'XlformersError', code: expect.stringMatching(/^ERR_(ARG_|DISPOSED|UNSUPPORTED)/) });
      }
      if (index % 50 === 49) {
        await native.fence(bench.device).catch((error: unknown) => {
          expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_(ARG_RANGE|TOKEN_ID|UNSUPPORTED)$/) });
        });
        bench.releaseAll();
      }
    }
    expect(accepted).toBeGreaterThan(0);
  },
);
