import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLLMHeadModel, XLNetLMHeadModel, XLNetModel } from '../../lib';
import { runCli } from '../support/cli';
import { fixturePath } from '../support/fixtures';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-generate-'));
const folder = (name: string) => path.join(scratch, name);
const [xlnet, sentencePiece, bare, words] = [folder('xlnet'), folder('spiece'), folder('bare'), folder('words')];

beforeAll(async () => {
  const config = { vocabSize: 2000, dModel: 32, nLayer: 2, nHead: 2, dInner: 48, memLen: null, initializerRange: 0.2 };
  const options = { device: 'cpu', seed: 3 } as const;
  const models = [
    [new XLNetLMHeadModel(config, options), xlnet],
    [new XLNetLMHeadModel(config, options), sentencePiece],
    [new XLNetModel(config, options), bare],
    [
      new TransformerXLLMHeadModel(
        {
          ...{ vocabSize: 300, cutoffs: [], divVal: 1, nLayer: 1, dModel: 16, dEmbed: 16, nHead: 2 },
          dHead: 8,
          dInner: 16,
        },
        options,
      ),
      words,
    ],
  ] as const;
  for (const [model, directory] of models) {
    await model.save(directory);
    model.dispose();
  }
  for (const [directory, file] of [
    [xlnet, 'tokenizer.json'],
    [bare, 'tokenizer.json'],
    [sentencePiece, 'spiece.model'],
  ] as const) {
    copyFileSync(fixturePath('tokenizers', 'xlnet-small', file), path.join(directory, file));
  }
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Report {
  prompt: string;
  text: string;
  ids: number[];
  logProbability: number;
  tokensPerSecond: number;
}

async function report(...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await runCli(['generate', xlnet, '--device', 'cpu', '--json', ...args]);
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Report;
}

test('an XLNet continues a text: the terminal shows what --json says', async () => {
  const args = ['--prompt', 'Hello, world', '--tokens', '12', '--seed', '4'];
  const json = await report(...args);
  expect(json.ids).toHaveLength(12);
  expect(json.prompt).toBe('Hello, world');
  expect(json.logProbability).toBeLessThan(0);
  expect(json.tokensPerSecond).toBeGreaterThan(0);
  const plain = await runCli(['generate', xlnet, '--device', 'cpu', ...args]);
  expect(plain.stdout).toBe(`${json.prompt}${json.text}\n`);
});

test('a space at the end of the prompt that the tokenizer drops goes to the next word', async () => {
  const args = ['--tokens', '3', '--temperature', '0', '--device', 'cpu'];
  const [first, second] = await Promise.all(
    ['the dog ', 'the dog'].map((prompt) => runCli(['generate', sentencePiece, '--prompt', prompt, ...args])),
  );
  expect(first!.stdout).toMatch(/^the dog/);
  expect(first!.stdout).toBe(second!.stdout);
});

test('decoding, padding text, memory length and stop id reach the model', async () => {
  const args = ['--prompt', 'the dog', '--tokens', '10', '--temperature', '0'];
  const plain = await report(...args);
  const [hf, padded, short] = await Promise.all([
    report(...args, '--decoding', 'hf'),
    report(...args, '--padding-text', 'a long story about the sea <eod>'),
    report(...args, '--memory-length', '2'),
  ]);
  for (const other of [hf, padded, short]) {
    expect(other!.ids).not.toEqual(plain.ids);
    expect(other!.prompt).toBe('the dog');
  }
  const stopId = plain.ids[4]!;
  const stopped = await report(...args, '--stop-id', String(stopId));
  expect(stopped.ids).toEqual(plain.ids.slice(0, plain.ids.indexOf(stopId)));
});

test.each([
  [['generate', bare], 1, /holds a XLNetModel, expected a language model/],
  [
    ['generate', words],
    1,
    /has no tokenizer; looked for tokenizer.json, spiece.model, .*vocab_size is 300, expected 256 for bytes/,
  ],
  [['generate', xlnet, '--prompt', ''], 1, /--prompt: gives no tokens/],
  [['generate', xlnet, '--prompt', 'x', '--stop-id', '2000'], 1, /stopId: got 2000/],
  [['generate', xlnet, '--prompt', 'x', '--decoding', 'fast'], 2, /Allowed choices are exact, hf/],
  [['generate', xlnet, '--prompt-file', '/no/such'], 1, /\/no\/such: there is no such file.*ERR_FILE_NOT_FOUND/],
  [['generate', '/no/such'], 1, /'\/no\/such' is neither a folder nor a hub id/],
] as const)('%j fails with %d and says why', async (args, code, message) => {
  const result = await runCli([...args, '--device', 'cpu']);
  expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(message)]);
});
