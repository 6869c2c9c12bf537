/** Names of classes, and heads for other labels than the checkpoint's. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XLNetForSequenceClassification, XLNetLMHeadModel, type XLNetOptions } from '../../lib';
import { xlnetConfig, xlnetConfigFromFile, xlnetConfigToFile } from '../../lib/models/xlnetConfig';
import { readJson } from '../support/fixtures';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-labels-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const small: XLNetOptions = { vocabSize: 30, dModel: 8, nLayer: 1, nHead: 2, dInner: 8 };

test('names are written and read as id2label and label2id', () => {
  const file = xlnetConfigToFile(xlnetConfig({ ...small, labelNames: ['no', 'maybe', 'yes'] }), 'X');
  expect(file.id2label).toEqual({ 0: 'no', 1: 'maybe', 2: 'yes' });
  expect(file.label2id).toEqual({ no: 0, maybe: 1, yes: 2 });
  expect(file).not.toHaveProperty('label_names');
  expect(xlnetConfigFromFile(JSON.parse(JSON.stringify(file)) as never)).toMatchObject({
    numLabels: 3,
    labelNames: ['no', 'maybe', 'yes'],
  });
  expect(xlnetConfigToFile(xlnetConfig({ ...small, numLabels: 2 }), 'X').id2label).toEqual({
    0: 'LABEL_0',
    1: 'LABEL_1',
  });
});

test('names that are no list of their own are left aside, their number counts', () => {
  const read = (id2label: unknown) => xlnetConfigFromFile({ model_type: 'xlnet', id2label });
  expect(read({ 0: 'a', 1: 'a' })).toMatchObject({ numLabels: 2, labelNames: null });
  expect(read({ 1: 'a', 2: 'b', 3: 'c' })).toMatchObject({ numLabels: 3, labelNames: null });
  expect(read({ 0: 'a', 1: 7 })).toMatchObject({ numLabels: 2, labelNames: null });
});

test.each<[XLNetOptions, string]>([
  [{ labelNames: ['a', 'b'], numLabels: 3 }, 'config.labelNames: got an array of length 2, expected 3 names'],
  [
    { labelNames: ['a', 'a'] },
    'config.labelNames: got an array of length 2, expected null or an array of different names',
  ],
  [{ labelNames: [''] }, 'config.labelNames'],
  [{ labelNames: 'ab' as never }, "config.labelNames: got 'ab'"],
])('%j is refused', (options, message) => {
  expect(() => xlnetConfig({ ...small, ...options })).toThrow(message);
});

test('a classifier starts from a checkpoint with other labels: body kept, head new', async () => {
  const folder = path.join(scratch, 'two');
  const two = new XLNetForSequenceClassification({ ...small, labelNames: ['no', 'yes'] }, { seed: 3, device: 'cpu' });
  await two.save(folder);
  expect(readJson<{ id2label: object }>(folder, 'config.json').id2label).toEqual({ 0: 'no', 1: 'yes' });

  await expect(
    XLNetForSequenceClassification.fromPretrained(folder, { device: 'cpu', config: { dModel: 4 } }),
  ).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_MISMATCH' });
  const three = await XLNetForSequenceClassification.fromPretrained(folder, {
    device: 'cpu',
    config: { labelNames: ['no', 'maybe', 'yes'], dropout: 0.25 },
  });
  expect(three.config).toMatchObject({ numLabels: 3, dropout: 0.25, dModel: 8 });
  const data = async (model: typeof two, name: string) => [...(await model.parameters().get(name)!.data())];
  const shared = 'sequence_summary.summary.weight';
  const body = 'transformer.layer.0.rel_attn.q';
  expect(await data(three, body)).toEqual(await data(two, body));
  expect(await data(three, shared)).toEqual(await data(two, shared));
  expect(three.parameters().get('logits_proj.weight')!.shape).toEqual([3, 8]);
  // As many labels: the head is taken over.
  const renamed = await XLNetForSequenceClassification.fromPretrained(folder, {
    device: 'cpu',
    config: { labelNames: ['ham', 'spam'] },
  });
  expect(await data(renamed, 'logits_proj.weight')).toEqual(await data(two, 'logits_proj.weight'));
  for (const model of [two, three, renamed]) model.dispose();
});

test('biData of a pass: backwards rows see the text from the other end', async () => {
  const model = new XLNetLMHeadModel(small, { seed: 3, device: 'cpu' });
  model.eval();
  const ids = [
    [1, 2, 3, 4],
    [1, 2, 3, 4],
  ];
  const rows = async (biData: boolean | undefined) => {
    const { logits, lastHiddenState, mems } = model.forward({
      inputIds: ids,
      ...(biData === undefined ? {} : { biData }),
    });
    const values = [...(await logits.data())];
    for (const each of [logits, lastHiddenState, mems!]) each.dispose();
    return [values.slice(0, values.length / 2), values.slice(values.length / 2)];
  };
  const [first, second] = await rows(undefined);
  expect(second).toEqual(first);
  const [forwards, backwards] = await rows(true);
  expect(forwards).toEqual(first);
  expect(backwards).not.toEqual(first);
  expect(() => model.forward({ inputIds: [[1, 2]], biData: true })).toThrow('expected an even number with biData');
  model.dispose();
});
