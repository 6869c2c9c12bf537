import { add, keep, noGrad, scope, Tensor } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { badIntegers } from '../support/badNumbers';
import { codeOf } from '../support/errors';
import { cpu, leaf } from '../support/operators';

const device = resolveDevice('cpu');
const make = () => Tensor.zeros([2], cpu);

class Holder {
  constructor(private readonly held: Tensor) {}
  tensors(): Tensor[] {
    return [this.held];
  }
}

describe('scope', () => {
  test('frees what was made in it, and lets live what it returns in any form', () => {
    const before = device.memory().liveBytes;
    const made: Tensor[] = [];
    const own = () => {
      made.push(make());
      return made[made.length - 1]!;
    };
    const result = scope(() => {
      const dropped = own();
      add(dropped, dropped);
      return {
        a: own(),
        list: [own(), [own()]],
        map: new Map([['x', own()]]),
        set: new Set([own()]),
        holder: new Holder(own()),
        text: 'x',
      };
    });
    expect(made.map(({ disposed }) => disposed)).toEqual([true, ...new Array<boolean>(6).fill(false)]);
    expect(result.text).toBe('x');
    for (const tensor of made) tensor.dispose();
    expect(device.memory().liveBytes).toBeLessThanOrEqual(before);
  });

  test('what escaped through a variable is disposed', async () => {
    let escaped: Tensor | undefined;
    scope(() => {
      escaped = make();
    });
    expect(await codeOf(() => escaped!.data())).toBe('ERR_DISPOSED');
    expect(await codeOf(() => add(escaped!, make()))).toBe('ERR_DISPOSED');
  });

  test('an error frees everything, and goes through', () => {
    const before = device.memory().liveBytes;
    const mine = new RangeError('mine');
    const body = () => {
      make();
      scope(() => make());
      throw mine;
    };
    expect(() => scope(body)).toThrow(mine);
    expect(device.memory().liveBytes).toBeLessThanOrEqual(before);
    // The stack of scopes is as before: nothing made now belongs to a scope.
    const after = make();
    scope(() => make());
    expect(after.disposed).toBe(false);
    after.dispose();
  });

  test('nests: what an inner scope returns belongs to the outer one', () => {
    let inner: Tensor | undefined;
    const outer = scope(() => {
      inner = scope(() => make());
      expect(inner.disposed).toBe(false);
      return make();
    });
    expect([inner!.disposed, outer.disposed]).toEqual([true, false]);
    outer.dispose();
  });

  test('keep takes a tensor out of every open scope', () => {
    let kept: Tensor | undefined;
    scope(() => scope(() => (kept = keep(make()), null))); // prettier-ignore
    expect(kept!.disposed).toBe(false);
    kept!.dispose();
  });

  test('results may be deep, and refer to themselves', () => {
    interface Link {
      tensor: Tensor;
      next: Link | null;
      first?: Link;
    }
    const chain = scope(() => {
      let link: Link | null = null;
      for (let depth = 0; depth < 20_000; depth += 1) link = { tensor: make(), next: link };
      return link;
    });
    let alive = 0;
    for (let link = chain; link !== null; link = link.next) {
      alive += link.tensor.disposed ? 0 : 1;
      link.tensor.dispose();
    }
    expect(alive).toBe(20_000);

    // Each of these refers to all of them: every path would be too many.
    const web = scope(() => {
      const nodes: { tensor: Tensor; all: unknown[] }[] = [];
      for (let index = 0; index < 50; index += 1) nodes.push({ tensor: make(), all: nodes });
      return nodes;
    });
    expect(web.every(({ tensor }) => !tensor.disposed)).toBe(true);
    for (const { tensor } of web) tensor.dispose();
  });

  test('disposing inside is harmless, and so is returning what is disposed', () => {
    const gone = scope(() => {
      const tensor = make();
      tensor.dispose();
      return tensor;
    });
    expect(gone.disposed).toBe(true);
    gone.dispose();
  });

  test('promises are refused, by noGrad too, and what was made is freed', async () => {
    const before = device.memory().liveBytes;
    for (const run of [scope, noGrad]) {
      const body = async () => {
        make().dispose();
        await null;
        throw new Error('nobody waits for this');
      };
      expect(await codeOf(() => run(body))).toBe('ERR_ARG_TYPE');
      expect(() => run(() => ({ then: () => 5 }))).toThrow(/^(scope|noGrad): the body returned a promise/);
    }
    scope(() => {
      const tape = leaf([1], [1]);
      // Recording is on again after the refusals.
      expect(add(tape, tape).tracksGradient).toBe(true);
      expect(noGrad(() => add(tape, tape)).tracksGradient).toBe(false);
    });
    expect(device.memory().liveBytes).toBeLessThanOrEqual(before);
  });

  test('what is no function is refused', async () => {
    for (const body of badIntegers.filter((each) => typeof each !== 'function')) {
      expect(await codeOf(() => scope(body as () => void))).toBe('ERR_ARG_TYPE');
      expect(await codeOf(() => noGrad(body as () => void))).toBe('ERR_ARG_TYPE');
    }
  });
});
