import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  LabelledBatches,
  type LabelledText,
  labelNames,
  parseLabelledCsv,
  parseLabelledJsonLines,
  readLabelledText,
  splitExamples,
} from '../../lib/data/labelledText';

describe('parseLabelledJsonLines', () => {
  test('strings, integers and booleans are labels; other fields are passed over', () => {
    const text =
      '{"text":"a\\nb","label":"x"}\r\n{"label":3,"text":"","id":[1]}\n{"text":"\\ud83d\\ude00\u2028","label":false}';
    expect(parseLabelledJsonLines(text, 'd')).toEqual([
      { text: 'a\nb', label: 'x' },
      { text: '', label: '3' },
      { text: '😀\u2028', label: 'false' },
    ]);
  });

  test.each([
    ['', 'd: holds no examples'],
    ['{"text":"a","label":"x"}\n\n', 'd: line 2 is no JSON'],
    ['{"text":"a","label":"x"}\n{"text":', 'd: line 2 is no JSON'],
    ['[1]', 'd: line 1 has an array of length 1, expected an object'],
    ['null', 'd: line 1 has null, expected an object'],
    ['{"label":"x"}', "d: line 1 has no field 'text'; it has label"],
    ['{"text":7,"label":"x"}', 'd: line 1 has text 7, expected a string'],
    ['{"text":"a"}', "d: line 1 has no field 'label'; it has text"],
    ['{}', "d: line 1 has no field 'text'; it has none"],
    ['{"text":"a","label":""}', "d: line 1 has label '', expected a string"],
    ['{"text":"a","label":1.5}', 'd: line 1 has label 1.5, expected a string'],
    ['{"text":"a","label":null}', 'd: line 1 has label null, expected a string'],
    ['{"text":"\\ud83d","label":"x"}', 'd: line 1 has half a surrogate pair'],
  ])('refuses %j', (text, message) => {
    expect(() => parseLabelledJsonLines(text, 'd')).toThrow(expect.objectContaining({ code: 'ERR_DATA_FORMAT' }));
    expect(() => parseLabelledJsonLines(text, 'd')).toThrow(message);
  });
});

test('other columns', () => {
  const columns = { textColumn: 'body', labelColumn: 'kind' };
  const expected = [{ text: 'a', label: 'x' }];
  expect(parseLabelledJsonLines('{"body":"a","kind":"x","text":"no"}', 'd', columns)).toEqual(expected);
  expect(parseLabelledCsv('kind,text,body\nx,no,a\n', 'd', columns)).toEqual(expected);
  expect(() => parseLabelledJsonLines('{"text":"a","kind":"x"}', 'd', columns)).toThrow(
    "d: line 1 has no field 'body'; it has text, kind",
  );
  expect(() => parseLabelledJsonLines('{"body":1,"kind":"x"}', 'd', columns)).toThrow('d: line 1 has body 1, expected');
  expect(() => parseLabelledCsv('body,label\na,x\n', 'd', columns)).toThrow(
    "names no column 'kind'; it has body, label",
  );
});

describe('parseLabelledCsv', () => {
  test('columns by name, in any order', () => {
    expect(parseLabelledCsv('id,label, text\n1,x,"a\nb"\n2,y,c\n', 'd')).toEqual([
      { text: 'a\nb', label: 'x' },
      { text: 'c', label: 'y' },
    ]);
  });

  test.each([
    ['', "d: line 1 (the header) names no column 'text'; it has none"],
    ['a,label\n1,2\n', "d: line 1 (the header) names no column 'text'; it has a, label"],
    ['text,label,text\n', "d: line 1 (the header) names more than one column 'text'"],
    ['text,label\n', 'd: holds no examples'],
    ['text,label\n"a\nb",x\nc,\n', "d: line 4 has label ''"],
  ])('refuses %j', (text, message) => {
    expect(() => parseLabelledCsv(text, 'd')).toThrow(message);
  });
});

describe('readLabelledText', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-labelled-'));
  });
  afterAll(() => fs.rm(directory, { recursive: true }));

  const written = async (name: string, content: string | Uint8Array) => {
    const file = path.join(directory, name);
    await fs.writeFile(file, content);
    return file;
  };

  test('by the ending of the name, with or without a byte order mark', async () => {
    const expected = [{ text: 'é', label: 'x' }];
    await expect(readLabelledText(await written('a.jsonl', '{"text":"é","label":"x"}\n'))).resolves.toEqual(expected);
    await expect(readLabelledText(await written('a.ndjson', '{"text":"é","label":"x"}'))).resolves.toEqual(expected);
    await expect(readLabelledText(await written('a.CSV', '\ufefftext,label\né,x\n'))).resolves.toEqual(expected);
  });

  test('other endings, missing files and other encodings are refused', async () => {
    await expect(readLabelledText(path.join(directory, 'a.txt'))).rejects.toThrow('a name that ends in .jsonl');
    await expect(readLabelledText(path.join(directory, 'no.csv'))).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
    });
    const latin = Buffer.from('text,label\na,x\né,y\n', 'latin1');
    await expect(readLabelledText(await written('latin.csv', latin))).rejects.toThrow(
      /latin\.csv: line 3 is not UTF-8/,
    );
  });
});

test('labelNames: integers by value, names by characters', () => {
  const named = (labels: string[]) => labelNames(labels.map((label) => ({ text: '', label })));
  expect(named(['10', '9', '-1', '9'])).toEqual(['-1', '9', '10']);
  expect(named(['spam', 'ham', 'spam'])).toEqual(['ham', 'spam']);
  expect(named(['10', '9', 'a'])).toEqual(['10', '9', 'a']);
});

describe('splitExamples', () => {
  const examples = Array.from({ length: 300 }, (_, index): LabelledText => ({
    text: `text ${index % 250}`,
    label: index % 250 < 200 ? 'ham' : 'spam',
  }));

  test('holds out a share of each label, by seed', () => {
    const { train, valid } = splitExamples(examples, 0.2, 1);
    expect(train.length + valid.length).toBe(300);
    const share = (label: string) => valid.filter((example) => example.label === label).length;
    expect([share('ham'), share('spam')]).toEqual([50, 10]);
    expect(splitExamples(examples, 0.2, 1)).toEqual({ train, valid });
    expect(splitExamples(examples, 0.2, 2).valid).not.toEqual(valid);
    expect(splitExamples(examples, 0, 1)).toEqual({ train: examples, valid: [] });
  });

  test('equal texts stay on one side, also when their labels differ', () => {
    const odd = [...examples, { text: 'text 3', label: 'spam' }];
    const { train, valid } = splitExamples(odd, 0.5, 1);
    const learnt = new Set(train.map(({ text }) => text));
    expect(valid.length).toBeGreaterThan(100);
    expect(valid.filter(({ text }) => learnt.has(text))).toEqual([]);
  });

  test.each([-0.1, 1, NaN, '0.1'])('a share of %p is refused', (share) => {
    expect(() => splitExamples(examples, share as number, 1)).toThrow('validShare: got');
  });
});

describe('LabelledBatches', () => {
  const examples = Array.from({ length: 11 }, (_, index) => ({ text: `t${index}`, label: index % 3 ? 'b' : 'a' }));

  test('every epoch has every example once, in another order', () => {
    const batches = new LabelledBatches(examples, ['a', 'b'], 4, 7);
    expect(batches.batchesPerEpoch).toBe(3);
    const epochs = [0, 1].map(() => Array.from({ length: 3 }, () => batches.next()));
    const orders = epochs.map((epoch) => epoch.flatMap(({ indices }) => [...indices]));
    for (const order of orders) expect([...order].sort((a, b) => a - b)).toEqual([...examples.keys()]);
    expect(orders[0]).not.toEqual(orders[1]);
    expect(epochs[0]!.map(({ texts }) => texts.length)).toEqual([4, 4, 3]);
    expect(epochs.flat().map(({ epoch, index }) => [epoch, index])).toEqual(
      [0, 1].flatMap((e) => [0, 1, 2].map((i) => [e, i])),
    );
    for (const { texts, labels, indices } of epochs.flat()) {
      expect(texts).toEqual([...indices].map((place) => examples[place]!.text));
      expect([...labels]).toEqual([...indices].map((place) => (place % 3 ? 1 : 0)));
    }
    expect(batches.at({ epoch: 0, index: 3 })).toBeNull();
  });

  test('resumes from its state', () => {
    const straight = new LabelledBatches(examples, ['a', 'b'], 4, 7);
    for (let step = 0; step < 8; step += 1) {
      const resumed = new LabelledBatches(examples, ['a', 'b'], 4, 7);
      resumed.restore(JSON.parse(JSON.stringify(straight.state())) as ReturnType<typeof straight.state>);
      expect(resumed.next()).toEqual(straight.next());
    }
  });

  test('without a seed in the order of the data', () => {
    const batches = new LabelledBatches(examples, ['a', 'b'], 11, null);
    expect([...batches.at({ epoch: 5, index: 0 })!.indices]).toEqual([...examples.keys()]);
  });

  test('refuses unknown labels, no examples and no batch size', () => {
    expect(() => new LabelledBatches(examples, ['a', 'c'], 4, 1)).toThrow(
      "examples[1]: got label 'b', expected one of a, c",
    );
    expect(() => new LabelledBatches([], ['a'], 4, 1)).toThrow('examples: got');
    expect(() => new LabelledBatches(examples, ['a', 'b'], 0, 1)).toThrow('batchSize: got 0');
  });
});
