/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { linear, record, scale, scope, Tensor } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { device as deviceName, onDevice } from '../support/operators';

const device = resolveDevice(deviceName);

async function liveBytes(): Promise<number> {
  await device.synchronize();
  return device.memory().liveBytes;
}

test('memory returns to its baseline when recordings and what they gave are disposed', async () => {
  const baseline = await liveBytes();
  const x = Tensor.zeros([64, 64], onDevice);
  const weight = Tensor.zeros([64, 64], onDevice);
  const before = await liveBytes();
  const chain = () => {
    let y = linear(x, weight);
    for (let count = 0; count < 20; count += 1) {
      const previous = y;
      y = scope(() => linear(scale(previous, 2), weight));
      previous.dispose();
    }
    return y;
  };
  for (let round = 0; round < 5; round += 1) {
    const recording = record(chain, onDevice);
    const held = await liveBytes();
    // Memory is used again inside a recording: 21 products and 20 scaled ones do with a few tensors' memory.
    expect(held - before).toBeLessThanOrEqual(4 * x.size * 4);
    expect(held - before).toBeGreaterThanOrEqual(2 * x.size * 4);
    for (let count = 0; count < 3; count += 1) recording.replay();
    expect(await liveBytes()).toBe(held);
    // In any order.
    if (round % 2 === 0) recording.dispose();
    recording.outputs.dispose();
    recording.dispose();
    expect(await liveBytes()).toBe(before);
    expect(() => record(() => [chain(), Tensor.from([1], undefined, onDevice)], onDevice)).toThrow(/upload/);
    expect(await liveBytes()).toBe(before);
    const within = scope(() => record(chain, onDevice));
    within.replay();
    expect(within.outputs.disposed).toBe(false);
    within.dispose();
    within.outputs.dispose();
    expect(await liveBytes()).toBe(before);
  }
  x.dispose();
  weight.dispose();
  expect(await liveBytes()).toBe(baseline);
});
