/** Commands that run a model on texts: they print what the library computes. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  attentionWeights,
  classifyTexts,
  encodeTexts,
  fillMasked,
  TransformerXLModel,
  XLNetForMultipleChoice,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetModel,
  XLNetTokenizer,
} from '../../lib';
import { runCli, runMain } from '../support/cli';
import { fixturePath, readJson } from '../support/fixtures';
import { parseNpy } from '../support/npy';
import { saveTinyXLNet } from '../support/tinyXLNet';
import { parseXml } from '../support/xml';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-texts-'));
const at = (...parts: string[]) => path.join(scratch, ...parts);
const lm = at('lm');
const texts = ['Hello, world!', 'Call me Ishmael. Some years ago', 'a'];
const cpu = { device: 'cpu' };
let tokenizer: XLNetTokenizer;

beforeAll(async () => {
  await saveTinyXLNet(at('lm'));
  await saveTinyXLNet(at('classes'), XLNetForSequenceClassification, { numLabels: 3 });
  await saveTinyXLNet(at('choice'), XLNetForMultipleChoice);
  await saveTinyXLNet(at('pieces'), XLNetLMHeadModel, {}, 'spiece.model');
  setConfig('classes', { id2label: { 0: 'ham', 1: 'spam', 2: 'eggs' } });
  const bytes = new TransformerXLModel(
    {
      ...{ vocabSize: 256, cutoffs: [], divVal: 1, tieProjs: [false], nLayer: 2, dModel: 16, dEmbed: 16, nHead: 2 },
      ...{ dHead: 8, dInner: 16, memLen: 6, initStd: 0.3, clampLen: -1, sameLength: false },
    },
    { seed: 2, ...cpu },
  );
  await bytes.save(at('run', 'model'));
  bytes.dispose();
  writeFileSync(at('lines.txt'), `${texts.join('\n')}\n`);
  // A download of xlnet-base-cased, as Python's huggingface_hub keeps it.
  const commit = '0123456789abcdef0123456789abcdef01234567';
  const cache = at('cache', 'models--xlnet--xlnet-base-cased');
  cpSync(at('lm'), path.join(cache, 'snapshots', commit), { recursive: true });
  mkdirSync(path.join(cache, 'refs'));
  writeFileSync(path.join(cache, 'refs', 'main'), commit);
  tokenizer = await XLNetTokenizer.fromFolder(at('lm'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function setConfig(model: string, fields: object): void {
  const config = readJson<object>(at(model), 'config.json');
  writeFileSync(at(model, 'config.json'), JSON.stringify({ ...config, ...fields }));
}

async function collect<T>(results: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const result of results) all.push(result);
  return all;
}

/** What a command prints, having ended well. */
async function output(args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runMain([...args, '--device', 'cpu']);
  expect([args, code, stderr]).toEqual([args, 0, '']);
  return stdout;
}

const jsonLines = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('encode', () => {
  let model: XLNetModel;
  beforeAll(async () => {
    model = await XLNetModel.fromPretrained(at('lm'), cpu);
  });
  afterAll(() => model.dispose());

  test('the example of the documentation, from the cache', async () => {
    const stdout = await output([
      ...['encode', 'xlnet-base-cased', 'Hello, world!'],
      ...['--offline', '--cache-dir', at('cache')],
    ]);
    const [expected] = await collect(encodeTexts(model, tokenizer, ['Hello, world!']));
    // Printed numbers are read back as the same float32.
    expect(Float32Array.from(stdout.trim().split(' '), Number)).toEqual(expected!.values);
  });

  test('texts from arguments, a file or the standard input are JSON lines', async () => {
    const expected = await collect(encodeTexts(model, tokenizer, texts, { pool: 'mean' }));
    const args = ['encode', at('lm'), '--pool', 'mean', '--json'];
    const given = await output([...args, ...texts]);
    const file = await output([...args, '--file', at('lines.txt')]);
    const stdin = await runCli([...args, '--device', 'cpu'], {}, `exec < '${at('lines.txt')}'`);
    const parsed = jsonLines(given);
    expect(parsed.map(({ text }) => text)).toEqual(texts);
    parsed.forEach(({ ids, tokens, vector }, index) => {
      expect([ids, tokens]).toEqual([Array.from(expected[index]!.ids), expected[index]!.tokens]);
      expect(Float32Array.from(vector as number[])).toEqual(expected[index]!.values);
    });
    expect([file, stdin.stdout]).toEqual([given, given]);
  });

  test('hidden states of every token', async () => {
    const [expected] = await collect(encodeTexts(model, tokenizer, texts.slice(0, 1), { pool: 'none' }));
    const args = ['encode', at('lm'), texts[0]!, '--pool', 'none'];
    const [text, json] = await Promise.all([output(args), output([...args, '--json'])]);
    const { hiddenStates } = jsonLines(json)[0] as { hiddenStates: number[][] };
    expect(hiddenStates.map((row) => row.length)).toEqual(expected!.tokens.map(() => 32));
    expect(Float32Array.from(hiddenStates.flat())).toEqual(expected!.values);
    expect(
      text
        .trimEnd()
        .split('\n')
        .map((line) => line.split(' ').map(Number)),
    ).toEqual(hiddenStates);
  });

  test('a NumPy file of pooled vectors, or of padded hidden states', async () => {
    const pooled = await collect(encodeTexts(model, tokenizer, texts, { pool: 'first' }));
    const all = await collect(encodeTexts(model, tokenizer, texts, { pool: 'none' }));
    const args = ['encode', at('lm'), ...texts, '--pool'];
    const [report, text] = await Promise.all([
      output([...args, 'first', '--output', at('pooled.npy'), '--json']),
      output([...args, 'none', '--output', at('all.npy')]),
    ]);
    const lengths = all.map(({ ids }) => ids.length);
    const longest = Math.max(...lengths);
    expect(jsonLines(report)).toEqual([
      { file: at('pooled.npy'), dtype: 'float32', shape: [3, 32], pool: 'first', lengths },
    ]);
    expect(text).toBe(`${at('all.npy')}: float32 [3, ${longest}, 32], tokens of each text: ${lengths.join(', ')}\n`);
    const vectors = parseNpy(readFileSync(at('pooled.npy')));
    expect(vectors).toEqual({ shape: [3, 32], values: Float32Array.from(pooled.flatMap(({ values }) => [...values])) });
    const states = parseNpy(readFileSync(at('all.npy')));
    expect(states.shape).toEqual([3, longest, 32]);
    all.forEach(({ values }, index) => {
      const row = states.values.subarray(index * longest * 32, (index + 1) * longest * 32);
      expect(row.subarray(0, values.length)).toEqual(values);
      expect(row.subarray(values.length).every((value) => value === 0)).toBe(true);
    });
  });

  test('a training directory of bytes', async () => {
    const parsed = jsonLines(await output(['encode', at('run'), 'naïve', '--json']));
    expect(parsed[0]).toMatchObject({ tokens: ['n', 'a', '<0xC3>', '<0xAF>', 'v', 'e'] });
    expect(parsed[0]!.vector).toHaveLength(16);
  });
});

test('fill shows candidates, and the text with the best', async () => {
  const text = 'The <mask> is <mask>, said the old man.';
  const model = await XLNetLMHeadModel.fromPretrained(at('lm'), cpu);
  const expected = await fillMasked(model, tokenizer, text, { topK: 2 });
  const ordered = await fillMasked(model, tokenizer, text, { order: 'leftToRight' });
  model.dispose();
  const [plain, json, pieces] = await Promise.all([
    output(['fill', at('lm'), text, '--top-k', '2']),
    output(['fill', at('lm'), text, '--order', 'left-to-right', '--json']),
    output(['fill', at('pieces'), text, '--json']),
  ]);
  const lines = expected.places.flatMap(({ position, candidates }, index) => [
    `<mask> ${index + 1}, token ${position + 1}`,
    ...candidates.map(({ token, probability }) => `  ${(100 * probability).toFixed(2).padStart(6)} %  ${token}`),
  ]);
  expect(plain).toBe(`${[...lines, expected.text].join('\n')}\n`);
  const [parsed] = jsonLines(json);
  expect(parsed).toMatchObject({ text: ordered.text, ids: Array.from(ordered.ids), order: 'left-to-right' });
  (parsed!.places as typeof ordered.places).forEach(({ position, candidates }, index) => {
    const place = ordered.places[index]!;
    expect([position, candidates.length]).toEqual([place.position, 5]);
    // Padding of batches aside, the same kernels give the same float32.
    expect(candidates.map((each) => ({ ...each, probability: Math.fround(each.probability) }))).toEqual(
      place.candidates,
    );
  });
  expect(jsonLines(pieces)[0]!.places).toHaveLength(2);
});

describe('classify', () => {
  test('one class of several', async () => {
    const model = await XLNetForSequenceClassification.fromPretrained(at('classes'), cpu);
    const labels = ['ham', 'spam', 'eggs'];
    const expected = await collect(classifyTexts(model, tokenizer, texts, { labels }));
    model.dispose();
    const args = ['classify', at('classes'), '--file', at('lines.txt')];
    const [json, plain] = await Promise.all([output([...args, '--json']), output(args)]);
    jsonLines(json).forEach(({ text, label, scores }, index) => {
      const wanted = expected[index]!;
      expect([text, label]).toEqual([texts[index], wanted.labels[0]]);
      const rounded = wanted.scores.map((each) => ({ ...each, score: Math.fround(each.score) }));
      const read = (scores as typeof rounded).map((each) => ({ ...each, score: Math.fround(each.score) }));
      expect(read).toEqual(rounded);
    });
    const first = [...expected[0]!.scores].sort((a, b) => b.score - a.score);
    const shown = first.map(({ label, score }) => `${label} ${(100 * score).toFixed(2)} %`).join(', ');
    expect(plain.split('\n')[0]).toBe(`${expected[0]!.labels[0]}  "Hello, world!"  (${shown})`);
  });

  test('any number of classes, or a value', async () => {
    cpSync(at('classes'), at('several'), { recursive: true });
    setConfig('several', { problem_type: 'multi_label_classification' });
    await saveTinyXLNet(at('value'), XLNetForSequenceClassification, { numLabels: 1 });
    const [several, value, plain] = await Promise.all([
      output(['classify', at('several'), 'Hello', '--json']),
      output(['classify', at('value'), 'Hello', '--json']),
      output(['classify', at('value'), 'Hello']),
    ]);
    const [{ labels, scores }] = jsonLines(several) as [
      { labels: string[]; scores: { label: string; score: number }[] },
    ];
    expect([...labels].sort()).toEqual(
      scores
        .filter(({ score }) => score >= 0.5)
        .map(({ label }) => label)
        .sort(),
    );
    expect(scores.every(({ score }) => score > 0 && score < 1)).toBe(true);
    const [regression] = jsonLines(value);
    expect(regression).toMatchObject({ value: expect.any(Number), scores: [{ label: 'LABEL_0' }] });
    expect(plain).toBe(`${String(regression!.value)}  "Hello"\n`);
  });
});

describe('attention', () => {
  test('writes a heat map, and numbers', async () => {
    const model = await XLNetModel.fromPretrained(at('lm'), cpu);
    const text = 'The cat <sat> & "slept"';
    const { keys, weights } = await attentionWeights(model, tokenizer, text, { layer: 1, head: 3 });
    model.dispose();
    const args = ['attention', at('lm'), text, '--layer', '1', '--head', '3'];
    const [plain, json] = await Promise.all([
      output([...args, '--output', at('cat.svg')]),
      output([...args, '--json']),
    ]);
    expect(plain).toBe(`${at('cat.svg')}: layer 1 of 2, head 3 of 4, ${keys.length} tokens\n`);
    const elements = parseXml(readFileSync(at('cat.svg'), 'utf8'));
    expect(elements[1]).toMatchObject({ name: 'title', text: `${at('lm')}, layer 1, head 3` });
    const [parsed] = jsonLines(json);
    expect(parsed).toMatchObject({ text, layer: 1, head: 3, queries: keys, keys });
    expect(parsed).not.toHaveProperty('file');
    expect(Float32Array.from((parsed!.weights as number[][]).flat())).toEqual(weights);
  });

  test('shows the memory of a Transformer-XL', async () => {
    const stdout = await output(['attention', at('run'), 'abc', '--json', '--output', at('abc.svg')]);
    expect(jsonLines(stdout)[0]).toMatchObject({ keys: ['memory', 'a', 'b', 'c'], file: at('abc.svg') });
    expect(existsSync(at('abc.svg'))).toBe(true);
  });
});

test.each(['encode', 'fill', 'classify', 'attention', 'convert', 'info'])('%s --help teaches', async (command) => {
  const { code, stdout } = await runMain([command, '--help']);
  expect(code).toBe(0);
  for (const part of [`Examples:\n  xlformers ${command} `, '--json', '--offline', '--revision', '--cache-dir']) {
    expect(stdout).toContain(part);
  }
  if (!/convert|info/.test(command)) expect(stdout).toContain('--device');
});

test('an empty standard input is named', async () => {
  const { code, stderr } = await runCli(['encode', lm]);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/texts: got none from the standard input, expected arg/)]);
});

test('a reader that stops early is no error', async () => {
  writeFileSync(at('many.txt'), 'hello\n'.repeat(2000));
  const program = `'${process.execPath}' -r ts-node/register/transpile-only lib/cli/main.ts`;
  const { stdout, stderr } = await runCli(
    [],
    {},
    `${program} encode '${lm}' --file '${at('many.txt')}' --pool none | head -c 5; echo " code \${PIPESTATUS[0]}"; exit`,
  );
  expect(stdout).toMatch(/^[-\d.]{5} code 0\n$/);
  expect(stderr).not.toMatch(/error/i);
});

test('a text too long for a heat map is refused', async () => {
  const { code, stderr } = await runMain(['attention', lm, 'word '.repeat(300), '--output', at('x.svg')]);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/text: has \d+ tokens, expected at most 200/)]);
  expect(existsSync(at('x.svg'))).toBe(false);
});

test.each([
  [['encode', 'xlnet-huge', 'x'], /'xlnet-huge' is neither a folder nor a hub id .*short names are .*xlnet-base-cased/],
  [['encode', './none', 'x'], /'.\/none' is neither a folder nor a hub id/],
  [['encode', 'xlnet', 'x', '--offline', '--cache-dir', at('none')], /not in the cache .*none.*--offline/],
  [['encode', scratch, 'x'], /holds no config.json/],
  [
    ['encode', fixturePath('hf', 'xlnet-plain'), 'x'],
    /has no tokenizer; looked for tokenizer.json.*ERR_TOKENIZER_FILE/,
  ],
  [['encode', lm, 'x', '--file', 'y'], /texts: got 1 arguments and --file, expected one of the two/],
  [['encode', lm, '--file', at('none.txt')], /none.txt: there is no such file/],
  [['encode', lm, 'x', '--output', 'x.npz'], /--output: got 'x.npz', expected a name that ends in .npy/],
  [['encode', lm, 'x', '--output', at('none', 'x.npy')], /x.npy: cannot be written/],
  [['encode', lm, 'x', '--revision', '../..', '--device', 'tpu'], /device: got 'tpu'/],
  [['fill', lm, 'nothing to fill'], /text: has no <mask>, expected one at each place/],
  [
    ['fill', at('classes'), '<mask>'],
    /is of class XLNetForSequenceClassification; fill needs XLNetLMHeadModel.*'classify'/,
  ],
  [['fill', at('run'), '<mask>'], /is a Transformer-XL, which reads from left to right only; .*'generate'/],
  [['fill', lm, '<mask>', '--top-k', '2001'], /topK: got 2001/],
  [['classify', lm, 'x'], /is of class XLNetLMHeadModel; classify needs XLNetForSequenceClassification.*'fill'/],
  [['classify', at('choice'), 'x'], /is of class XLNetForMultipleChoice; classify needs .*'encode'/],
  [['classify', at('headless'), 'x'], /has no weights of a head; classify needs .*train --task classify/],
  [['attention', lm, 'x', '--layer', '2'], /layer: got 2, expected 0 … 1 \(the model has 2 layers\)/],
  [['attention', lm, 'x', '--head', '4'], /head: got 4, expected 0 … 3 \(the model has 4 heads\)/],
  [['attention', lm, 'x', '--output', 'x.png'], /--output: got 'x.png', expected a name that ends in .svg/],
] as const)('%j fails and says why', async (args, message) => {
  // The weights of a language model under the name of a classifier.
  if (args[1] === at('headless')) {
    cpSync(lm, at('headless'), { recursive: true });
    setConfig('headless', { architectures: ['XLNetForSequenceClassification'] });
  }
  const { code, stdout, stderr } = await runMain([...args]);
  expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(message)]);
});

test.each([
  [['encode'], /missing required argument 'model'/],
  [['encode', lm, 'x', '--pool', 'max'], /Allowed choices are last, first, mean, none/],
  [['encode', lm, 'x', '--batch-size', '0'], /Expected an integer >= 1/],
  [['fill', lm], /missing required argument 'text'/],
  [['fill', lm, '<mask>', '--order', 'random'], /Allowed choices are independent, left-to-right/],
  [['attention', lm, 'x', '--layer', '-1'], /Expected an integer >= 0/],
  [['clasify', lm], /Did you mean classify/],
] as const)('%j is wrong usage', async (args, message) => {
  const { code, stderr } = await runMain([...args]);
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
});

test('--json gives errors as JSON too', async () => {
  const { code, stdout } = await runMain(['fill', lm, 'nothing', '--json']);
  expect([code, jsonLines(stdout)]).toEqual([1, [{ error: { code: 'ERR_ARG_RANGE', message: expect.any(String) } }]]);
});
