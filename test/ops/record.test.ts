import {
  add,
  adam,
  dropout,
  embedding,
  Generator,
  layerNorm,
  linear,
  noGrad,
  record,
  relativeAttention,
  reshape,
  ringAppend,
  sample,
  scale,
  slice,
  Tensor,
} from '../../lib';
import { ids, leaf, onDevice, product, tensor } from '../support/operators';
import { TestRandom } from '../support/random';

const random = new TestRandom(31);

/** A small step with a bit of everything: ids, products, attention over a ring that it moves on. */
function makeStep() {
  const table = tensor(random.normals(7 * 6), [7, 6]);
  const weight = tensor(random.normals(18 * 6), [18, 6]);
  const position = tensor(random.normals(6 * 6), [6, 2, 3]);
  const start = random.normals(5 * 12);
  const state = () => ({ ids: ids([0], [1, 1]), ring: tensor(start, [1, 5, 12]), head: ids([3]) });
  const step = ({ ids: input, ring, head }: ReturnType<typeof state>) =>
    noGrad(() => {
      const projected = linear(embedding(input, table), weight);
      const part = (first: number) => sliceColumns(projected, first, 6, [1, 1, 2, 3]);
      const memory = (first: number) => sliceColumns(ring, first, 6, [1, 5, 2, 3]);
      const attended = relativeAttention({
        ...{ query: part(0), key: part(6), value: part(12), memoryKey: memory(0), memoryValue: memory(6) },
        ...{ memoryHead: head, position },
      });
      ringAppend(ring, { tensor: projected, first: 6, count: 12 }, { head });
      return scale(attended, 2);
    });
  return { state, step };
}

function sliceColumns(x: Tensor, first: number, count: number, shape: number[]): Tensor {
  return reshape(slice(x, x.shape.length - 1, first, first + count), shape);
}

describe('record', () => {
  test('a replay does what the calls would do again, with what its inputs hold then', async () => {
    const { state, step } = makeStep();
    const [plain, recorded] = [state(), state()];
    const sequence = [3, 6, 0, 1, 1, 5, 2, 4];
    recorded.ids.overwrite(Int32Array.of(sequence[0]!));
    const recording = record(() => step(recorded), onDevice);
    for (const [index, id] of sequence.entries()) {
      plain.ids.overwrite(Int32Array.of(id));
      if (index > 0) {
        recorded.ids.overwrite(Int32Array.of(id));
        recording.replay();
      }
      const expected = step(plain);
      expect(await recording.outputs.data()).toEqual(await expected.data());
      expect([...(await recorded.head.data())]).toEqual([...(await plain.head.data())]);
      expect(await recorded.ring.data()).toEqual(await plain.ring.data());
    }
    recording.dispose();
  });

  test('replays need not be waited for one by one', async () => {
    const x = tensor([1, 2, 3], [3]);
    const recording = record(() => void add(x, x, { out: x }), onDevice);
    for (let count = 1; count < 40; count += 1) recording.replay();
    expect([...(await x.data())]).toEqual([1, 2, 3].map((value) => value * 2 ** 40));
    recording.dispose();
  });

  test('a forward and backward pass', async () => {
    const weight = leaf(random.normals(12), [3, 4]);
    const x = tensor(random.normals(8), [2, 4]);
    const gradient = tensor(random.normals(6), [2, 3]);
    const recording = record(() => {
      const y = linear(x, weight);
      y.backward(gradient);
      return y.detach();
    }, onDevice);
    for (let round = 0; round < 3; round += 1) {
      x.overwrite(random.normals(8));
      recording.replay();
      const [y, dw] = [await recording.outputs.data(), await weight.grad!.data()];
      const copy = leaf(await weight.data(), [3, 4]);
      const expected = linear(x, copy);
      expected.backward(gradient);
      expect([y, dw]).toEqual([await expected.data(), await copy.grad!.data()]);
    }
    recording.dispose();
  });

  // CUDA leaves a layer norm of few rows to the product that reads it next.
  test.each([1, 3, 4, 5])('layer norms of %d rows, read by products and by others', async (rows) => {
    const random32 = (shape: number[]) => tensor(random.normals(product(shape)), shape, 'float32');
    const [x, weight, bias, square] = [random32([rows, 24]), random32([24]), random32([24]), random32([24, 24])];
    const body = () =>
      noGrad(() => {
        const norm = (input: Tensor, residual: Tensor) => layerNorm(input, weight, bias, { epsilon: 1e-5, residual });
        const first = norm(linear(x, square), x);
        const second = norm(linear(first, square, { activation: 'relu' }), first);
        return [first, second, linear(second, square, { residual: second }), add(norm(second, x), x)];
      });
    const recording = record(body, onDevice);
    for (let round = 0; round < 2; round += 1) {
      x.overwrite(Float32Array.from(random.normals(rows * 24)));
      recording.replay();
      const expected = body();
      for (const [index, output] of recording.outputs.entries()) {
        expect(await output.data()).toEqual(await expected[index]!.data());
      }
    }
    recording.dispose();
  });

  test('its memory is nobody else’s until it is disposed', async () => {
    const x = tensor(random.normals(1000), [1000]);
    const recording = record(() => scale(scale(scale(x, 2), 3), 5), onDevice);
    const expected = [...(await recording.outputs.data())];
    // Of the same sizes: they would get memory that was freed.
    const others = Array.from({ length: 8 }, (_, index) =>
      Tensor.full([1000], index, { ...onDevice, dtype: 'float64' }),
    );
    recording.replay();
    expect([...(await recording.outputs.data())]).toEqual(expected);
    for (const [index, other] of others.entries()) {
      expect([...(await other.data())]).toEqual(new Array(1000).fill(index));
    }
    recording.dispose();
  });

  test('operands live on in it when their tensors are disposed, and outputs after it', async () => {
    const x = tensor([1, 2], [2]);
    const recording = record(() => scale(x, 3), onDevice);
    x.dispose();
    const filler = tensor([7, 7], [2]);
    recording.replay();
    recording.dispose();
    recording.dispose();
    expect([...(await recording.outputs.data())]).toEqual([3, 6]);
    expect([...(await filler.data())]).toEqual([7, 7]);
    expect(() => recording.replay()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });

  test('wrong data are told by the read after a replay, and the next replay goes on', async () => {
    const table = tensor(random.normals(12), [4, 3]);
    const input = ids([1]);
    const recording = record(() => embedding(input, table), onDevice);
    input.overwrite(Int32Array.of(9));
    recording.replay();
    await expect(recording.outputs.data()).rejects.toThrow(/embedding: id 9 at position 0/);
    input.overwrite(Int32Array.of(2));
    recording.replay();
    expect([...(await recording.outputs.data())]).toEqual([...(await table.data())].slice(6, 9));
    recording.dispose();
  });

  const x = tensor([1, 2, 3, 4], [2, 2]);
  test.each<[string, () => unknown, RegExp]>([
    ['data from the host', () => Tensor.from([1, 2], undefined, onDevice), /upload: .*make the tensor before/],
    ['new values', () => x.overwrite(new Float64Array(4)), /upload: .*write to it between replays/],
    [
      'dropout',
      () => dropout(x, { probability: 0.5, generator: new Generator(1) }),
      /random numbers.* cannot be recorded/,
    ],
    ['sampling', () => sample(x, { generator: new Generator(1) }), /random numbers/],
    [
      'an optimizer step',
      () =>
        adam({
          tensors: [{ parameter: x, gradient: x, firstMoment: x, secondMoment: x, weightDecay: 0 }],
          ...{ learningRate: 1, beta1: 0.9, beta2: 0.9, epsilon: 1, step: 1, decoupled: false },
        }),
      /adam: .*step and learning rate change/,
    ],
    ['a recording', () => record(() => x, onDevice), /another recording/],
  ])('%s cannot be recorded', async (_, body, message) => {
    const act = () => record(() => [scale(x, 2), body()], onDevice);
    expect(act).toThrow(expect.objectContaining({ code: 'ERR_RECORDING', message: expect.stringMatching(message) }));
    // Nothing is left behind: tensors work as before.
    expect([...(await scale(x, 2).data())]).toEqual([2, 4, 6, 8]);
  });

  test('reads and waiting cannot be recorded, nor what a promise does later', async () => {
    const reads: Promise<unknown>[] = [];
    const recording = record(() => void reads.push(x.data()), onDevice);
    await expect(reads[0]).rejects.toThrow(/read: .*read after a replay/);
    recording.dispose();
    const waits = () => record(() => void x.device.synchronize(), onDevice);
    expect(waits).toThrow(/synchronize: .*wait after/);
    const later = async () => Promise.resolve();
    expect(() => record(later, onDevice)).toThrow(/record: the body returned a promise/);
    expect([...(await x.data())]).toEqual([1, 2, 3, 4]);
  });

  test('what the body did before it failed has run, once', async () => {
    const sum = tensor([1], [1]);
    const fails = () =>
      record(() => {
        add(sum, sum, { out: sum });
        throw new Error('on purpose');
      }, onDevice);
    expect(fails).toThrow('on purpose');
    expect([...(await sum.data())]).toEqual([2]);
  });
});
