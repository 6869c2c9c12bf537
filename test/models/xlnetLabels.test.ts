/** Heads for other labels than the checkpoint's; both directions of a batch. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { XLNetForSequenceClassification, XLNetLMHeadModel, type XLNetOptions } from '../../lib';
import { readJson } from '../support/fixtures';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-labels-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const small: XLNetOptions = { vocabSize: 30, dModel: 8, nLayer: 1, nHead: 2, dInner: 8 };

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
