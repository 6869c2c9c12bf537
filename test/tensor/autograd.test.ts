import { activation, add, linear, noGrad, reshape, scale, scope, slice, Tensor } from '../../lib';
import { record } from '../../lib/autograd';
import { resolveDevice } from '../../lib/device';
import { mean } from '../../lib/ops/mean';
import { codeOf } from '../support/errors';
import { cpu, leaf, tensor } from '../support/operators';

const device = resolveDevice('cpu');
/** Held against upper bounds: the collector may free what an earlier test forgot at any time. */
const live = () => device.memory().liveBytes;
const valuesOf = async (given: Tensor | null) => given && [...(await given.data())];

test('gradients of all uses add up, over calls of backward too', async () => {
  const x = leaf([1, 2], [2]);
  const loss = () => scope(() => mean(add(scale(x, 3), x)));
  loss().backward();
  expect(await valuesOf(x.grad)).toEqual([2, 2]);
  loss().backward();
  expect(await valuesOf(x.grad)).toEqual([4, 4]);
});

test('a gradient that someone else looks at is not changed under him', async () => {
  const x = leaf([1, 2], [2]);
  mean(x).backward();
  const seen = x.grad!.detach();
  mean(x).backward();
  expect([await valuesOf(seen), await valuesOf(x.grad)]).toEqual([
    [0.5, 0.5],
    [1, 1],
  ]);
});

test('diamonds and long chains', async () => {
  const x = leaf([2], [1]);
  let sum: Tensor = x;
  for (let depth = 0; depth < 3000; depth += 1) sum = depth % 1000 === 0 ? add(sum, sum) : scale(sum, -1);
  sum.backward();
  expect(await valuesOf(x.grad)).toEqual([-8]);
});

test('noGrad, detach and leaves without requiresGrad stop the tape', async () => {
  const x = leaf([1], [1]);
  const plain = tensor([1], [1]);
  expect(noGrad(() => scale(x, 2)).tracksGradient).toBe(false);
  expect(scale(x.detach(), 2).tracksGradient).toBe(false);
  expect(scale(plain, 2).tracksGradient).toBe(false);
  add(x, plain).backward();
  expect([await valuesOf(x.grad), plain.grad]).toEqual([[1], null]);
  // noGrad nests, and an error restores what was.
  noGrad(() => {
    noGrad(() => null);
    expect(scale(x, 2).tracksGradient).toBe(false);
  });
  const fails = () =>
    noGrad(() => {
      throw new Error('mine');
    });
  expect(fails).toThrow('mine');
  expect(scale(x, 2).tracksGradient).toBe(true);
});

describe('is refused', () => {
  test('where there is no tape', async () => {
    for (const each of [tensor([1], [1]), leaf([1], [1]), noGrad(() => scale(leaf([1], [1]), 2))]) {
      expect(await codeOf(() => each.backward())).toBe('ERR_AUTOGRAD');
    }
  });

  test('a second time, also from elsewhere, and no gradient changes', async () => {
    const x = leaf([1, 2], [2]);
    const y = leaf([1, 2], [2]);
    const shared = activation(x, 'tanh');
    const first = mean(shared);
    // The second loss reaches y before it finds the used part.
    const second = mean(add(shared, scale(y, 2)));
    first.backward();
    const before = await valuesOf(x.grad);
    const held = live();
    for (const loss of [first, second, first]) {
      expect(await codeOf(() => loss.backward())).toBe('ERR_AUTOGRAD');
      expect(() => loss.backward()).toThrow(/was used already; run forward again/);
    }
    expect([await valuesOf(x.grad), y.grad]).toEqual([before, null]);
    expect(live()).toBeLessThanOrEqual(held);
  });

  test('after dispose', async () => {
    const x = leaf([1], [1]);
    const loss = scale(x, 2);
    loss.dispose();
    expect(await codeOf(() => loss.backward())).toBe('ERR_DISPOSED');
    const other = scale(x, 2);
    const gradient = tensor([1], [1]);
    gradient.dispose();
    expect(await codeOf(() => other.backward(gradient))).toBe('ERR_DISPOSED');
    other.backward();
    expect(await valuesOf(x.grad)).toEqual([2]);
  });

  test.each<[string, unknown, string]>([
    ['none', undefined, 'ERR_AUTOGRAD'],
    ['null', null, 'ERR_ARG_TYPE'],
    ['numbers', [1, 1], 'ERR_ARG_TYPE'],
    ['an object with its shape', { shape: [2], dtype: 'float64' }, 'ERR_ARG_TYPE'],
    ['another shape', tensor([1, 1], [1, 2]), 'ERR_ARG_SHAPE'],
    ['another type', tensor([1, 1], [2], 'float32'), 'ERR_ARG_TYPE'],
    ['integers', Tensor.from(Int32Array.of(1, 1), [2], cpu), 'ERR_ARG_TYPE'],
    ['an heir of a tensor', Object.create(tensor([1, 1], [2])), 'ERR_ARG_HANDLE'],
  ])('with this gradient of two elements: %s', async (_, gradient, code) => {
    const x = leaf([1, 2], [2]);
    const y = scale(x, 3);
    const held = live();
    expect(await codeOf(() => y.backward(gradient as Tensor))).toBe(code);
    expect(x.grad).toBeNull();
    expect(live()).toBeLessThanOrEqual(held);
    y.backward(tensor([1, 1], [2]));
    expect(await valuesOf(x.grad)).toEqual([3, 3]);
  });
});

describe('memory', () => {
  test('disposing a loss frees what its gradient would have needed', () => {
    const x = leaf(new Float64Array(4096), [64, 64]);
    const before = live();
    const loss = scope(() => mean(activation(linear(x, x), 'gelu')));
    expect(live() - before).toBeGreaterThan(2 * 8 * 4096);
    loss.dispose();
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('backward frees it too, and leaves the gradients of leaves alone', () => {
    const x = leaf(new Float64Array(4096), [64, 64]);
    const before = live();
    const loss = scope(() => mean(activation(linear(x, x), 'gelu')));
    loss.backward();
    loss.dispose();
    expect(live() - before).toBeLessThanOrEqual(8 * 4096);
    x.grad!.dispose();
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('operands may be disposed between forward and backward', async () => {
    const x = leaf([1, 2, 3, 4], [2, 2]);
    const w = tensor([1, 0, 0, 1], [2, 2]);
    const hidden = linear(x, w);
    const loss = mean(hidden);
    hidden.dispose();
    w.dispose();
    loss.backward();
    expect(await valuesOf(x.grad)).toEqual([0.25, 0.25, 0.25, 0.25]);
  });

  test('a leaf that was disposed gets no gradient, and the others theirs', async () => {
    const [x, w] = [leaf([1, 2, 3, 4], [2, 2]), leaf([1, 0, 0, 1], [2, 2])];
    const loss = mean(add(linear(x, w), w));
    w.dispose();
    const before = live();
    loss.backward();
    expect([await valuesOf(x.grad), w.grad]).toEqual([[0.25, 0.25, 0.25, 0.25], null]);
    loss.dispose();
    x.grad!.dispose();
    expect(live()).toBeLessThanOrEqual(before);
  });

  test('an error inside a gradient leaves no half gradients, and the loss may be disposed', async () => {
    const x = leaf([1, 2, 3], [3]);
    const base = live();
    const middle = scale(x, 2);
    const broken = middle.alias();
    record({
      name: 'broken',
      inputs: [middle],
      outputs: [broken],
      saved: [],
      gradient: () => {
        throw new RangeError('mine');
      },
    });
    const loss = scope(() => mean(add(middle, broken)));
    const held = live();
    for (let round = 0; round < 3; round += 1) expect(() => loss.backward()).toThrow(/mine|used already/);
    expect(x.grad).toBeNull();
    expect(live()).toBeLessThanOrEqual(held);
    for (const each of [loss, broken, middle]) each.dispose();
    expect(live()).toBeLessThanOrEqual(base);
    expect(await codeOf(() => x.data())).toBeNull();
  });
});

test('views of parts flow back into the whole', async () => {
  const x = leaf([1, 2, 3, 4, 5, 6], [2, 3]);
  scope(() => mean(slice(reshape(x, [3, 2]), 0, 1, 2))).backward();
  expect(await valuesOf(x.grad)).toEqual([0, 0, 0.5, 0.5, 0, 0]);
});
