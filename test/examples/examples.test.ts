import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLLMHeadModel } from '../../lib';
import { repository } from '../support/cli';

function run(name: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const program = path.join(repository, 'examples', name);
  return spawnSync(process.execPath, ['-r', 'ts-node/register/transpile-only', program, ...args], {
    cwd: repository,
    encoding: 'utf8',
  });
}

test('operator.ts: relative attention by itself', () => {
  const { status, stdout, stderr } = run('operator.ts');
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^output \[2, 100, 4, 64\], first values -?\d/);
});

test('conformer.ts: a padded batch gives what its rows give alone', () => {
  const { status, stdout, stderr } = run('conformer.ts');
  expect([status, stderr]).toEqual([0, '']);
  const [, difference] = /^output \[2, 120, 4, 36\]; padded and alone differ by at most (\S+)\n/.exec(stdout) ?? [];
  // Sums of 87 products of numbers near 1 in float32, in another order.
  expect(Number(difference)).toBeLessThan(87 * 2 ** -24);
  expect(stdout).toMatch(/gradient of the position projection: norm [1-9]/);
});

test('train.ts: training from a script', () => {
  const { status, stdout, stderr } = run('train.ts', path.join(repository, 'README.md'), '10');
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/step 10: loss \d.*\nfinished: \d\.\d+ bits per character/);
});

test('generate.ts: a trained model continues a prompt', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-example-'));
  const model = new TransformerXLLMHeadModel(
    {
      vocabSize: 256,
      cutoffs: [],
      divVal: 1,
      nLayer: 1,
      dModel: 16,
      dEmbed: 16,
      nHead: 2,
      dHead: 8,
      dInner: 16,
      memLen: 16,
    },
    { device: 'cpu' },
  );
  await model.save(folder);
  const { status, stdout } = run('generate.ts', folder, 'Hello');
  expect(status).toBe(0);
  expect(stdout.startsWith('Hello')).toBe(true);
  expect(run('generate.ts').status).toBe(2);
  rmSync(folder, { recursive: true });
});

test('classify.ts: a classifier from a script', () => {
  const { status, stdout, stderr } = run('classify.ts');
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/step 60: held-out accuracy \d\.\d+, F1 \d\.\d+\nfinished: best at step \d+\n/);
  // Ten sentences are held out; guessing all of them right has a chance of 1 in 1024.
  expect(stdout).toContain('held-out accuracy 1.000, F1 1.000');
  expect(stdout).toMatch(/\n(calm|storm): \S/);
});
