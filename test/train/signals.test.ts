/** Signals in the middle of an evaluation, and a second one: what is saved, the exit code, and that a resume changes nothing. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { languageModelTask } from '../../lib';
import { loadTrainingCheckpoint } from '../../lib/checkpoints/trainingCheckpoint';
import { readRunLog } from '../../lib/train/runLog';
import { runCli, signalsItself } from '../support/cli';
import { TestRandom } from '../support/random';
import { smallHeldOut, smallModel, smallRun, smallText, type RunOptions } from '../support/smallRun';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-signals-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function outcome(directory: string): Promise<{ log: object[]; weights: Buffer }> {
  const log = (await readRunLog(path.join(directory, 'log.jsonl'))).map((entry) => ({ ...entry, tokensPerSecond: 0 }));
  return { log, weights: readFileSync(path.join(directory, 'model', 'model.safetensors')) };
}

test.each([1, 2, 4])(
  'an evaluation cut short by a signal, at step %d, is owed after the resume: the same run',
  async (at) => {
    const directory = path.join(scratch, `evaluation-${at}`);
    const controller = new AbortController();
    const make = languageModelTask(smallModel(), { train: smallText, valid: smallHeldOut });
    let evaluations = 0;
    const task: RunOptions['task'] = (config) => {
      const made = make(config);
      return {
        ...made,
        evaluate: (signal) => {
          evaluations += 1;
          // Comes while the first batch runs.
          if (evaluations === at) queueMicrotask(() => controller.abort(new Error('SIGTERM')));
          return made.evaluate!(signal);
        },
      };
    };
    const result = await smallRun(smallModel(), directory, { task, signal: controller.signal });
    expect(result).toMatchObject({ outcome: 'interrupted', step: at });
    const { state, step } = (await loadTrainingCheckpoint(directory))!;
    expect([step, state.evaluatedStep]).toEqual([at, at - 1]);
    expect(existsSync(path.join(directory, 'model'))).toBe(false);
    expect(await smallRun(smallModel(), directory, { resume: true })).toMatchObject({ outcome: 'finished', step: 4 });
    const undisturbed = path.join(scratch, `undisturbed-${at}`);
    await smallRun(smallModel(), undisturbed);
    expect(await outcome(directory)).toEqual(await outcome(undisturbed));
  },
);

const text = path.join(scratch, 'text.txt');
const valid = path.join(scratch, 'valid.txt');

beforeAll(() => {
  const letters = new TestRandom(4).integers(60_000, 97, 122);
  writeFileSync(text, Uint8Array.from(letters));
  writeFileSync(valid, Uint8Array.from(letters.slice(0, 30_000)));
});

const flagsOf = (out: string, flags: string) => [
  ...['train', text, '--valid', valid, '--out', out],
  ...`--layers 1 --d-model 32 --d-inner 32 --heads 2 --seed 3 --checkpoint-interval 1 ${flags}`.split(' '),
];

test('SIGTERM during an evaluation: saved without its end, code 75', async () => {
  const out = path.join(scratch, 'cli-evaluation');
  // 30,000 tokens, one at a time: the evaluation after step 1 takes many times longer than the signal.
  const flags =
    '--steps 3 --batch-size 1 --target-length 8 --memory-length 8 --eval-interval 1 --eval-target-length 1 --eval-memory-length 64';
  const env = signalsItself(path.join(scratch, 'term.js'), 'SIGTERM', path.join(out, 'log.jsonl'), 50);
  const { code, stderr } = await runCli(flagsOf(out, flags), env);
  expect([code, stderr.includes('SIGTERM: saving')]).toEqual([75, true]);
  expect((await readRunLog(path.join(out, 'log.jsonl'))).map(({ event, step }) => [event, step])).toEqual([
    ['step', 1],
  ]);
  const checkpoint = (await loadTrainingCheckpoint(out))!;
  expect([checkpoint.step, checkpoint.state.evaluatedStep]).toEqual([1, 0]);
});

test.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const)('a second %s ends the process at once with %d; the last checkpoint is intact', async (name, expected) => {
  const out = path.join(scratch, `twice-${name}`);
  // The process sends itself both, the second as soon as the first is there: no machine is too slow or too quick for it.
  const first = path.join(scratch, `first-${name}.js`);
  const { NODE_OPTIONS } = signalsItself(first, name, path.join(out, 'latest'));
  const again = path.join(scratch, `again-${name}.js`);
  writeFileSync(again, `process.once('${name}', () => process.kill(process.pid, '${name}'));`);
  const { code, stdout, stderr } = await runCli(
    flagsOf(out, '--steps 100000 --batch-size 8 --target-length 32 --memory-length 32'),
    { NODE_OPTIONS: `${NODE_OPTIONS} --require ${again}` },
  );
  expect([code, stdout, stderr.includes('once more to stop at once')]).toEqual([expected, '', true]);
  const skipped: string[] = [];
  const checkpoint = await loadTrainingCheckpoint(out, { onSkipped: (folder) => skipped.push(folder) });
  expect([checkpoint!.step >= 1, skipped]).toEqual([true, []]);
});
