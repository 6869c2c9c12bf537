/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import {
  attentionWeights,
  classifyTexts,
  encodeTexts,
  fillMasked,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetModel,
  XLNetTokenizer,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { fixturePath } from '../support/fixtures';

const device = resolveDevice('cpu');
const shape = { vocabSize: 2000, nLayer: 2, dModel: 32, nHead: 4, dInner: 48 };
const texts = ['Hello, world!', 'a', 'The whale'];

async function liveBytes(): Promise<number> {
  await device.synchronize();
  return device.memory().liveBytes;
}

test('texts leave nothing behind, results, errors and readers that stop early included', async () => {
  const tokenizer = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
  const baseline = await liveBytes();
  const bare = new XLNetModel(shape, { device });
  const classifier = new XLNetForSequenceClassification(shape, { device });
  const language = new XLNetLMHeadModel(shape, { device });
  for (const pool of ['last', 'mean', 'none'] as const) {
    for await (const { values } of encodeTexts(bare, tokenizer, texts, { pool, batchSize: 2 })) {
      if (values.length === 0) break;
    }
  }
  for await (const { labels } of classifyTexts(classifier, tokenizer, texts)) if (labels[0] !== '') break;
  await fillMasked(language, tokenizer, 'The <mask> is <mask>.', { order: 'leftToRight' });
  await expect(fillMasked(language, tokenizer, 'none')).rejects.toThrow();
  await attentionWeights(bare, tokenizer, 'The whale', { layer: 1, head: 0 });
  for (const model of [bare, classifier, language]) model.dispose();
  expect(await liveBytes()).toBe(baseline);
});
