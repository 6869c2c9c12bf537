/** Several devices: the emulator has two. */
import {
  add,
  devices,
  generate,
  linear,
  noGrad,
  record,
  scale,
  Tensor,
  TransformerXLLMHeadModel,
  type TransformerXLOptions,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { runCli } from '../support/cli';
import { TestRandom } from '../support/random';

const random = new TestRandom(77);
const on = (device: string) => ({ device });
const cudaNames = (devices().find(({ backend }) => backend === 'cuda')?.devices ?? []).map(({ name }) => name);

test('devices are listed, by the library and by `info --devices`', async () => {
  expect(cudaNames).toEqual(['cuda:0', 'cuda:1']);
  const { stdout } = await runCli(['info', '--devices']);
  expect(stdout).toMatch(/^cpu: .*\ncuda:0: CUDA emulator, .*\ncuda:1: CUDA emulator, .* GiB\n$/);
});

test('a device that does not exist is refused with those that do', () => {
  for (const name of ['cuda:2', 'cuda:999']) {
    expect(() => Tensor.zeros([1], on(name))).toThrow(`device: '${name}' cannot be had: there are cuda:0 to cuda:1`);
  }
  expect(resolveDevice('cuda')).toBe(resolveDevice('cuda:0'));
  expect(resolveDevice('cuda:1').name).toBe('cuda:1');
});

test('each computes in memory of its own', async () => {
  const values = Float32Array.from(random.normals(12));
  const results: ArrayLike<number>[] = [];
  for (const name of cudaNames) {
    const others = cudaNames.filter((other) => other !== name).map((other) => resolveDevice(other));
    const before = others.map((other) => other.memory().liveBytes);
    const own = resolveDevice(name).memory().liveBytes;
    const x = Tensor.from(values, [3, 4], on(name));
    const y = linear(x, x);
    expect(y.device.name).toBe(name);
    expect(resolveDevice(name).memory().liveBytes).toBeGreaterThan(own);
    expect(others.map((other) => other.memory().liveBytes)).toEqual(before);
    results.push(await y.data());
  }
  expect(results[1]).toEqual(results[0]);
});

test('operands on different devices are refused, naming both', () => {
  const [x, y, z] = ['cuda:0', 'cuda:1', 'cpu'].map((name) => Tensor.zeros([2, 2], on(name))) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  expect(() => add(x, y)).toThrow(/got a tensor on cuda:1, expected one on cuda:0/);
  expect(() => linear(y, x)).toThrow(/got a tensor on cuda:0, expected one on cuda:1/);
  expect(() => add(z, y)).toThrow(/got a tensor on cuda:1, expected one on cpu/);
});

test('a recording is of one device; operands on another are refused', async () => {
  const [x, y] = ['cuda:0', 'cuda:1'].map((name) => Tensor.full([2], 3, on(name))) as [Tensor, Tensor];
  expect(() => record(() => scale(y, 2), on('cuda:0'))).toThrow(
    /operands are on cuda:1, and a recording of cuda:0 is being made/,
  );
  const recordings = [x, y].map((tensor) => record(() => scale(tensor, 2), { device: tensor.device }));
  for (const recording of recordings) recording.replay();
  for (const { outputs } of recordings) expect([...(await outputs.data())]).toEqual([6, 6]);
  for (const recording of recordings) recording.dispose();
});

test('a model on the second device continues a text as on the CPU', async () => {
  const options: TransformerXLOptions = {
    ...{ vocabSize: 20, cutoffs: [8], divVal: 2, nLayer: 2, dModel: 8, dEmbed: 8, nHead: 2, dHead: 4 },
    ...{ dInner: 12, memLen: 3, clampLen: -1, initStd: 0.5 },
  };
  const tokens: number[][] = [];
  for (const device of ['cpu', 'cuda:1']) {
    const model = new TransformerXLLMHeadModel(options, { device, seed: 3 });
    const drawn: number[] = [];
    for await (const { id } of generate(model, [1, 2, 3], { maxTokens: 8, temperature: 0 })) drawn.push(id);
    tokens.push(drawn);
    noGrad(() => model.dispose());
  }
  expect(tokens[1]).toEqual(tokens[0]);
});
