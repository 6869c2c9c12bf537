import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { runCli } from '../support/cli';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-cli-'));
const text = path.join(scratch, 'text.txt');
const out = path.join(scratch, 'run');

beforeAll(async () => {
  writeFileSync(text, 'the quick brown fox jumps over the lazy dog. '.repeat(60));
  const config = path.join(scratch, 'config.json');
  writeFileSync(
    config,
    JSON.stringify({
      model: { nLayer: 1, dModel: 32, nHead: 2, dInner: 32 },
      train: { steps: 500, batchSize: 4, targetLength: 16, memoryLength: 16, evaluation: { interval: 10 } },
    }),
  );
  // A flag overrides the file.
  const { code, stdout, stderr } = await runCli([
    'train',
    text,
    '--out',
    out,
    '--config',
    config,
    '--steps',
    '20',
    '--json',
    '--device',
    'cpu',
    '--seed',
    '5',
  ]);
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  expect(JSON.parse(stdout)).toMatchObject({ outcome: 'finished', step: 20, directory: out });
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('train leaves a model, a log and a loss curve', () => {
  expect(JSON.parse(readFileSync(path.join(out, 'model', 'config.json'), 'utf8'))).toMatchObject({
    model_type: 'transfo-xl',
    n_layer: 1,
    d_model: 32,
  });
  expect(readFileSync(path.join(out, 'loss.svg'), 'utf8')).toMatch(/^<svg/);
  expect(readFileSync(path.join(out, 'log.jsonl'), 'utf8').trim().split('\n')).toHaveLength(22);
});

test('evaluate reports the loss, as text and JSON', async () => {
  const plain = await runCli([
    'evaluate',
    out,
    text,
    '--memory-length',
    '40',
    '--target-length',
    '8',
    '--max-batches',
    '5',
  ]);
  expect(plain.stdout).toMatch(/^40 tokens: loss \d\.\d+, \d\.\d+ bits per character, perplexity/);
  const json = await runCli(['evaluate', out, text, '--max-batches', '2', '--json']);
  expect(JSON.parse(json.stdout)).toMatchObject({ tokens: 256 });
});

test('generate gives the same text for the same seed', async () => {
  const args = ['generate', out, '--prompt', 'the quick', '--tokens', '12', '--seed', '4', '--json'];
  const [first, second] = await Promise.all([runCli(args), runCli(args)]);
  const parsed = JSON.parse(first.stdout) as { ids: number[]; prompt: string };
  expect(parsed.prompt).toBe('the quick');
  expect(parsed.ids).toHaveLength(12);
  expect((JSON.parse(second.stdout) as { ids: number[] }).ids).toEqual(parsed.ids);
  const plain = await runCli(['generate', out, '--prompt', 'the quick', '--tokens', '3', '--temperature', '0']);
  expect(plain.stdout.startsWith('the quick')).toBe(true);
});

test('info shows devices and models', async () => {
  expect((await runCli(['info'])).stdout).toMatch(/^cpu: .*threads?, [\d.]+ GiB\ncuda: /);
  const json = JSON.parse((await runCli(['info', out, '--json'])).stdout) as Record<string, unknown>;
  expect(json).toMatchObject({ architecture: 'TransfoXLLMHeadModel', tensors: 15 });
  expect((await runCli(['info', out])).stdout).toContain('n_layer 1, d_model 32');
});

test('help teaches', async () => {
  const { code, stdout } = await runCli(['--help']);
  expect(code).toBe(0);
  for (const command of ['train', 'evaluate', 'generate', 'info']) {
    expect(stdout).toContain(command);
    const help = await runCli([command, '--help']);
    expect([command, help.code]).toEqual([command, 0]);
    expect(help.stdout).toMatch(/Example/);
    expect(help.stdout).toContain('--json');
  }
});

test.each([
  [['trian'], 2, /Did you mean train/],
  [['train'], 2, /required option '--out/],
  [['train', 'x'], 2, /--out/],
  [['train', 'x', '--out', 'y', '--steps', '1.5'], 2, /Expected an integer >= 1/],
  [['train', 'x', '--out', 'y', '--stpes', '1'], 2, /--steps/],
  [
    ['train', '/no/such/file', '--out', path.join(scratch, 'none')],
    1,
    /\/no\/such\/file: there is no such file.*ERR_FILE_NOT_FOUND/,
  ],
  [['evaluate', '/no/such', 'x'], 1, /holds no config.json/],
  [['generate', out, '--device', 'tpu'], 1, /device: got 'tpu'/],
  [['generate', out, '--device', 'cuda'], 1, /'cuda' cannot be had/],
  [['generate', out, '--top-p', '2'], 2, /Expected a number in/],
] as const)('%j fails with %d and says why', async (args, code, message) => {
  const result = await runCli(args);
  expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(message)]);
});

test('--json gives errors as JSON too', async () => {
  const { code, stdout } = await runCli(['evaluate', '/no/such', 'x', '--json']);
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_FILE_READ' } });
});
