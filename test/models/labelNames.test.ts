/** Names of classes in config.json: what is read and written, equal to Hugging Face's `save_pretrained` for both configurations. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLForSequenceClassification, XLNetForSequenceClassification } from '../../lib';
import type { Labels } from '../../lib/models/labelNames';
import {
  transformerXLConfig,
  transformerXLConfigFromFile,
  transformerXLConfigToFile,
} from '../../lib/models/transformerXLConfig';
import { xlnetConfig, xlnetConfigFromFile, xlnetConfigToFile } from '../../lib/models/xlnetConfig';
import { readJson } from '../support/fixtures';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-names-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

type Json = Record<string, unknown>;
type SavedLabels = Partial<Record<'id2label' | 'label2id', object>>;

const xlnetShape = { vocabSize: 30, dModel: 8, nLayer: 1, nHead: 2, dInner: 8 };
const transformerXLShape = { ...xlnetShape, cutoffs: [8], divVal: 2, dEmbed: 8, dHead: 4, memLen: 4 };

const architectures = [
  {
    name: 'Transformer-XL',
    config: (labels: Partial<Labels>) => transformerXLConfig({ ...transformerXLShape, ...labels }),
    toFile: (labels: Partial<Labels>): Json =>
      transformerXLConfigToFile(transformerXLConfig({ ...transformerXLShape, ...labels }), 'X'),
    fromFile: (file: Json): Labels => transformerXLConfigFromFile({ model_type: 'transfo-xl', ...file }),
    make: (labels: Partial<Labels>) =>
      new TransformerXLForSequenceClassification({ ...transformerXLShape, ...labels }, { device: 'cpu' }),
    load: (folder: string) => TransformerXLForSequenceClassification.fromPretrained(folder, { device: 'cpu' }),
  },
  {
    name: 'XLNet',
    config: (labels: Partial<Labels>) => xlnetConfig({ ...xlnetShape, ...labels }),
    toFile: (labels: Partial<Labels>): Json => xlnetConfigToFile(xlnetConfig({ ...xlnetShape, ...labels }), 'X'),
    fromFile: (file: Json): Labels => xlnetConfigFromFile({ model_type: 'xlnet', ...file }),
    make: (labels: Partial<Labels>) =>
      new XLNetForSequenceClassification({ ...xlnetShape, ...labels }, { device: 'cpu' }),
    load: (folder: string) => XLNetForSequenceClassification.fromPretrained(folder, { device: 'cpu' }),
  },
];

/** What transformers 4.57.6 writes for such labels, by both of its configurations. */
const saved: [name: string, labels: Partial<Labels>, file: SavedLabels, read: Labels][] = [
  ['the default', {}, {}, { numLabels: 2, labelNames: null }],
  ['two', { numLabels: 2 }, {}, { numLabels: 2, labelNames: null }],
  ['the default names, given', { labelNames: ['LABEL_0', 'LABEL_1'] }, {}, { numLabels: 2, labelNames: null }],
  [
    'three',
    { numLabels: 3 },
    {
      id2label: { 0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2' },
      label2id: { LABEL_0: 0, LABEL_1: 1, LABEL_2: 2 },
    },
    { numLabels: 3, labelNames: null },
  ],
  [
    'a single one',
    { numLabels: 1 },
    { id2label: { 0: 'LABEL_0' }, label2id: { LABEL_0: 0 } },
    { numLabels: 1, labelNames: null },
  ],
  [
    'two with names',
    { labelNames: ['no', 'yes'] },
    { id2label: { 0: 'no', 1: 'yes' }, label2id: { no: 0, yes: 1 } },
    { numLabels: 2, labelNames: ['no', 'yes'] },
  ],
  [
    'the default names in another order',
    { labelNames: ['LABEL_1', 'LABEL_0'] },
    { id2label: { 0: 'LABEL_1', 1: 'LABEL_0' }, label2id: { LABEL_1: 0, LABEL_0: 1 } },
    { numLabels: 2, labelNames: ['LABEL_1', 'LABEL_0'] },
  ],
  [
    'three with names',
    { labelNames: ['no', 'maybe', 'yes'] },
    { id2label: { 0: 'no', 1: 'maybe', 2: 'yes' }, label2id: { no: 0, maybe: 1, yes: 2 } },
    { numLabels: 3, labelNames: ['no', 'maybe', 'yes'] },
  ],
];

const labelsIn = (file: Json): SavedLabels =>
  Object.fromEntries(Object.entries(file).filter(([key]) => /^(id2label|label2id)$/.test(key)));

describe.each(architectures)('$name', ({ config, toFile, fromFile, make, load }) => {
  test.each(saved)('%s: written as Hugging Face does, and read back', (_, labels, file, read) => {
    const written = toFile(labels);
    expect(labelsIn(written)).toEqual(file);
    expect(fromFile(JSON.parse(JSON.stringify(written)) as Json)).toMatchObject(read);
  });

  test('a number without names', () => {
    expect(fromFile({ num_labels: 5 })).toMatchObject({ numLabels: 5, labelNames: null });
    // As in Hugging Face, names decide.
    expect(fromFile({ num_labels: 5, id2label: { 0: 'a', 1: 'b' } })).toMatchObject({
      numLabels: 2,
      labelNames: ['a', 'b'],
    });
  });

  test('names that are no list of their own are left aside, their number counts', () => {
    expect(fromFile({ id2label: { 0: 'a', 1: 'a' } })).toMatchObject({ numLabels: 2, labelNames: null });
    expect(fromFile({ id2label: { 1: 'a', 2: 'b', 3: 'c' } })).toMatchObject({ numLabels: 3, labelNames: null });
    expect(fromFile({ id2label: { 0: 'a', 1: 7 } })).toMatchObject({ numLabels: 2, labelNames: null });
  });

  test.each<[object, string]>([
    [{ labelNames: ['a', 'b'], numLabels: 3 }, 'config.labelNames: got an array of length 2, expected 3 names'],
    [
      { labelNames: ['a', 'a'] },
      'config.labelNames: got an array of length 2, expected null or an array of different names',
    ],
    [{ labelNames: [''] }, 'config.labelNames'],
    [{ labelNames: 'ab' }, "config.labelNames: got 'ab'"],
  ])('%j is refused', (labels, message) => {
    expect(() => config(labels)).toThrow(message);
  });

  test('a model keeps the names that it was given or loaded with, and makes up none', async () => {
    const folder = path.join(mkdtempSync(path.join(scratch, 'model-')), 'a');
    for (const [labels, file] of [
      [{ labelNames: ['no', 'yes'] }, { id2label: { 0: 'no', 1: 'yes' }, label2id: { no: 0, yes: 1 } }],
      [{}, {}],
    ] as const) {
      const model = make(labels);
      await model.save(folder);
      model.dispose();
      const again = await load(folder);
      await again.save(`${folder}-again`);
      again.dispose();
      for (const each of [folder, `${folder}-again`]) {
        expect(labelsIn(readJson<Json>(each, 'config.json'))).toEqual(file);
      }
    }
    // What another program wrote in full.
    const config = readJson<Json>(folder, 'config.json');
    const labels = { id2label: { 0: 'ham', 1: 'spam' }, label2id: { ham: 0, spam: 1 } };
    writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ ...config, ...labels }));
    const foreign = await load(folder);
    await foreign.save(`${folder}-again`);
    foreign.dispose();
    expect(labelsIn(readJson<Json>(`${folder}-again`, 'config.json'))).toEqual(labels);
  });
});
