/** Commands on files of weights: convert and info. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openWeights, summarizeModel } from '../../lib';
import { runMain } from '../support/cli';
import { fixturePath, readJson } from '../support/fixtures';
import { saveTinyXLNet } from '../support/tinyXLNet';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-weights-cli-'));
const at = (...parts: string[]) => path.join(scratch, ...parts);
beforeAll(() => saveTinyXLNet(at('lm')));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function output(args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runMain(args);
  expect([args, code, code === 0 ? '' : stderr]).toEqual([args, 0, '']);
  return stdout;
}

test('convert writes another format and type, with all that goes with it', async () => {
  const bin = at('bin');
  const { code, stdout, stderr } = await runMain(['convert', at('lm'), bin, '--format', 'bin', '--dtype', 'float16']);
  const file = path.join(bin, 'pytorch_model.bin');
  expect([code, stdout]).toEqual([0, `${file}: 37 tensors, 0.2 MiB\n`]);
  expect(stderr).toMatch(/converting █+ 37\/37/);
  expect(readdirSync(bin).sort()).toEqual(['config.json', 'pytorch_model.bin', 'tokenizer.json']);
  expect(readJson(bin, 'config.json')).toMatchObject({ dtype: 'float16', vocab_size: 2000 });
  const weights = await openWeights(bin);
  expect(new Set([...weights.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['F16']));
  await weights.close();

  const single = at('single.safetensors');
  const report = JSON.parse(await output(['convert', file, single, '--json'])) as object;
  expect(report).toMatchObject({ file: single, tensors: 37 });
});

test('convert keeps what is there, unless forced', async () => {
  const args = ['convert', at('lm'), at('twice')];
  await output(args);
  const refused = await runMain([...args, '--json']);
  expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([1, { error: { code: 'ERR_CHECKPOINT_EXISTS' } }]);
  expect(refused.stderr).toMatch(/model.safetensors: is there already; .*--force/);
  await output([...args, '--force']);
});

test('info of an XLNet, of a PyTorch file and of devices', async () => {
  const plain = await output(['info', at('lm')]);
  expect(plain.split('\n')).toEqual([
    `XLNetLMHeadModel in ${at('lm')}`,
    '  n_layer 2, d_model 32, n_head 4, d_head 8, d_inner 48, vocab_size 2000, mem_len null, reuse_len null, attn_type "bi"',
    '  83,152 parameters: embedding 64,032, layers 17,120, head 2,000',
    `  37 tensors of F32, 0.3 MiB in ${at('lm', 'model.safetensors')}`,
    '  weights in float32: 0.3 MiB; memory of one stream: grows with the text',
    expect.stringMatching(/^ {2}1 x 512 tokens: inference about [\d.]+ MiB, training about [\d.]+ MiB$/),
    '',
  ]);
  const torch = fixturePath('hf', 'txl-memory');
  await output(['convert', torch, at('txl'), '--format', 'bin']);
  const json = JSON.parse(await output(['info', at('txl'), '--json', '--batch-size', '8', '--length', '64'])) as object;
  expect(json).toEqual(await summarizeModel(at('txl'), { batchSize: 8, length: 64 }));
  const devices = await Promise.all([output(['info', '--devices']), output(['info'])]);
  expect(devices[0]).toMatch(/^cpu: .*threads?, [\d.]+ GiB\ncuda: /);
  expect(devices[1]).toBe(devices[0]);
});

test.each([
  [['convert', '/no/such', at('x')], 1, /'\/no\/such' is neither a folder nor a hub id/],
  [['convert', at('lm', 'config.json'), at('x')], 1, /config.json: .*ERR_CHECKPOINT_FORMAT|ERR_TORCH|ERR_ZIP/],
  [['convert', at('lm'), at('x.bin'), '--format', 'safetensors'], 1, /format: got 'safetensors' for .*x.bin/],
  [['convert', at('lm'), at('x'), '--dtype', 'int8'], 2, /Allowed choices are float32, float16, bfloat16/],
  [['convert', at('lm')], 2, /missing required argument 'to'/],
  [['info', '/no/such'], 1, /'\/no\/such' is neither a folder nor a hub id/],
  [['info', scratch], 1, /holds no config.json/],
  [['info', at('lm'), '--devices'], 1, /got a model .* and --devices, expected one of the two/],
] as const)('%j fails with %d and says why', async (args, code, message) => {
  const result = await runMain([...args]);
  expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(message)]);
});
