/** `npm start`, small: a run that is stopped half-way, one that goes on from there, one that starts anew. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { AutoModel } from '../../lib';
import type { DemoOptions } from '../../scripts/demo';
import { TestRandom } from '../support/random';
import { repository } from '../support/cli';

const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-demo-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const options: DemoOptions = {
  book: path.join(folder, 'book.txt'),
  directory: path.join(folder, 'run'),
  steps: 40,
  dModel: 64,
  layers: 1,
  memoryLength: 32,
  evaluationMemory: 64,
  sampleLength: 20,
};

/** Words drawn at random: as long as the batches need, and nothing that a model could learn by heart. */
function writeBook(): Buffer {
  const random = new TestRandom(1);
  const words = ['whale', 'sea', 'ship', 'the', 'of', 'and', 'old', 'captain', 'harpoon', 'white'];
  const text = Array.from({ length: 12_000 }, () => random.pick(words)).join(' ');
  writeFileSync(options.book, text);
  return Buffer.from(text);
}

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** @param interruptAt the program sends itself SIGINT when it has written this: another process might see it too late */
function run(interruptAt?: string): Promise<Run> {
  const interrupt = `
    const write = process.stdout.write.bind(process.stdout);
    process.stdout.write = (text, ...more) => {
      if (text.includes(${JSON.stringify(interruptAt)})) process.kill(process.pid, 'SIGINT');
      return write(text, ...more);
    };`;
  const program = `${interruptAt === undefined ? '' : interrupt}require('./scripts/demo').demo(${JSON.stringify(options)})`;
  const child = spawn(process.execPath, ['-r', 'ts-node/register/transpile-only', '-e', program], { cwd: repository });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
}

/** The steps at which a run was evaluated. */
const evaluated = ({ stdout }: Run) => [...stdout.matchAll(/^step (\d+):/gm)].map((match) => Number(match[1]));

test('an interrupted run goes on, ends with the comparison, and leaves model and curve', async () => {
  const book = writeBook();
  const first = await run('step 10:');
  expect(first).toMatchObject({ code: 75, stderr: expect.stringContaining('SIGINT: saving after this step') });
  expect(first.stdout).toContain('Interrupted and saved. npm start goes on from here.');
  expect(first.stdout).not.toContain('Held-out text');
  expect(existsSync(path.join(options.directory, 'model'))).toBe(false);

  const second = await run();
  expect([second.code, evaluated(second)]).toEqual([0, [20, 30, 40].slice(evaluated(first).length - 1)]);
  const figure = (name: string) => Number(new RegExp(`^  ${name} +(\\d+\\.\\d{3})$`, 'm').exec(second.stdout)?.[1]);
  expect(second.stdout).toContain('(training with 32 tokens of memory, evaluated with 64)');
  // 8 bits is knowing nothing; forty steps teach the letters.
  expect(figure('Transformer-XL')).toBeGreaterThan(0.5);
  expect(figure('Transformer-XL')).toBeLessThan(5);
  const held = book.subarray(Math.round(book.length * 0.95));
  const [whole, known] = [book, book.subarray(0, book.length - held.length)].map(
    (text) => gzipSync(text, { level: 9 }).length,
  ) as [number, number];
  // The demo leaves the 2 % for validation out of what gzip knows: of random words that changes little.
  expect(figure('gzip -9')).toBeCloseTo((8 * (whole - known)) / held.length, 1);
  expect(second.stdout).toMatch(/^ {2}xz -9 +(\d+\.\d{3}|not on this machine)$/m);
  expect(second.stdout).toMatch(
    /A sample:\n\nCall me Ishmael\. [\s\S]{5,}\n\nModel: .*run\/model {3}loss curve: .*run\/loss\.svg\n$/,
  );

  const curve = readFileSync(path.join(options.directory, 'loss.svg'), 'utf8');
  expect(curve).toMatch(/^<svg[\s\S]*<polyline[\s\S]*<\/svg>\s*$|^<svg[\s\S]*<path[\s\S]*<\/svg>\s*$/);
  const model = await AutoModel.fromPretrained(path.join(options.directory, 'model'));
  expect(model).toMatchObject({ config: { dModel: 64, nLayer: 1, vocabSize: 256 } });
  model.dispose();
});

test('after a finished run the next starts anew, without set-up', async () => {
  const before = statSync(path.join(options.directory, 'model')).mtimeMs;
  const again = await run();
  expect([again.code, evaluated(again)]).toEqual([0, [10, 20, 30, 40]]);
  expect(statSync(path.join(options.directory, 'model')).mtimeMs).toBeGreaterThan(before);
});
