/** Device memory returns to where it was: the 16-bit copies of weights, what the tape kept, and steps that were skipped. */
import { languageModelTask, Trainer, type Precision } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { device } from '../support/operators';
import { smallModel, smallText } from '../support/smallRun';

test.each<Precision>(['float32', 'bfloat16', 'float16'])('a training in %s', async (precision) => {
  const live = () => resolveDevice(device).memory().liveBytes;
  const before = live();
  const model = smallModel(1, {}, device);
  const weights = live();
  const trainer = new Trainer(languageModelTask(model, { train: smallText }), {
    ...{ batchSize: 2, targetLength: 4, memoryLength: 4, steps: 4, precision, accumulation: 2 },
    lossScaling: { initialScale: 2 ** 24, backoffFactor: 2 ** -8 },
  });
  const skips: boolean[] = [];
  const held: number[] = [];
  while (!trainer.finished) {
    skips.push((await trainer.step()).skipped);
    held.push(live());
  }
  expect(skips[0]).toBe(precision === 'float16');
  expect(skips[3]).toBe(false);
  // Every step leaves what the one before left.
  expect(held[3]).toBe(held[1]);
  trainer.dispose();
  expect(live()).toBe(weights);
  model.dispose();
  expect(live()).toBe(before);
});
