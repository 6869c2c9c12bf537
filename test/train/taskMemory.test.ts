/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import {
  type HeldOut,
  type TaskFactory,
  Trainer,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetTokenizer,
  classificationTask,
  permutationTask,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { fixturePath } from '../support/fixtures';

describe('memory returns to its baseline after training and evaluation of', () => {
  const xlnet = { vocabSize: 2000, nLayer: 2, dModel: 16, nHead: 2, dInner: 16 };
  const device = resolveDevice('cpu');
  const live = async () => {
    await device.synchronize();
    return device.memory().liveBytes;
  };

  async function leavesNothing<R extends HeldOut>(task: TaskFactory<R>, model: { dispose(): void }, baseline: number) {
    const weights = await live();
    const trainer = new Trainer(task, {
      ...{ batchSize: 4, targetLength: 16, memoryLength: 12, steps: 20, accumulation: 2, layerDecay: 0.9 },
    });
    // Two steps fill the memory of 12 rows, 8 at a time.
    await trainer.step();
    await trainer.step();
    const during = await live();
    for (let step = 0; step < 3; step += 1) {
      await trainer.step();
      expect(await live()).toBe(during);
    }
    await trainer.evaluate();
    expect(await live()).toBe(during);
    trainer.dispose();
    expect(await live()).toBe(weights);
    model.dispose();
    expect(await live()).toBe(baseline);
  }

  test("XLNet's pretraining", async () => {
    const tokenizer = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
    const text = 'The captain saw the whale.\nThe ship went into the sea.\n\n'.repeat(30);
    const baseline = await live();
    const model = new XLNetLMHeadModel(xlnet, { device: 'cpu' });
    const task = permutationTask(model, { train: text, valid: text, tokenizer, options: { biData: true } });
    await leavesNothing(task, model, baseline);
  });

  test('classification', async () => {
    const tokenizer = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
    const examples = Array.from({ length: 20 }, (_, index) => ({
      text: index % 2 ? 'the sea' : 'the old house',
      label: index % 2 ? 'sea' : 'land',
    }));
    const baseline = await live();
    const model = new XLNetForSequenceClassification({ ...xlnet, labelNames: ['land', 'sea'] }, { device: 'cpu' });
    await leavesNothing(classificationTask(model, { train: examples, valid: examples, tokenizer }), model, baseline);
  });
});
