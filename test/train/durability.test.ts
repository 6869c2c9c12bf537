/** What is on the disk after a power cut at any moment of a run: a good checkpoint, the best one, and the log that belongs to them. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadTrainingCheckpoint, openTrainingCheckpoint } from '../../lib/checkpoints/trainingCheckpoint';
import type { RunState } from '../../lib/train/runState';
import { smallModel, smallRun } from '../support/smallRun';
import { TracedFiles, type Remains } from '../support/tracedFiles';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-durability-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function materialise(remains: Remains): string {
  const folder = mkdtempSync(path.join(scratch, 'cut-'));
  for (const [name, data] of remains) {
    if (data === null) mkdirSync(path.join(folder, name), { recursive: true });
    else writeFileSync(path.join(folder, name), data);
  }
  return folder;
}

let files: TracedFiles;
/** Saved steps by the number of operations done before `onCheckpoint` told of them. */
const told: { step: number; operations: number }[] = [];

beforeAll(async () => {
  const folder = path.join(scratch, 'run');
  files = new TracedFiles(folder);
  const model = smallModel();
  try {
    const { outcome } = await smallRun(model, folder, {
      onCheckpoint: (_, step) => told.push({ step, operations: files.operations.length }),
    });
    expect(outcome).toBe('finished');
  } finally {
    files.restore();
    model.dispose();
  }
});

test('a save writes and syncs in the order that a crash demands', () => {
  // The third: the first is the best, so the second goes.
  const third = files.operations.slice(told[1]!.operations, told[2]!.operations);
  const steps = third.map(({ kind, path: name, to }) =>
    [kind, name, to]
      .filter((part) => part !== undefined)
      .join(' ')
      .replaceAll(String(process.pid), 'PID')
      .replaceAll(/PID-\d+/g, 'PID')
      .trim(),
  );
  // Several writes of a file in a row are one.
  const order = steps.filter((step, index) => step !== steps[index - 1]);
  const tensors = ['model', 'optimizer', 'mems'].flatMap((name) =>
    ['open', 'write', 'sync'].map((kind) => `${kind} .tmp-3-PID/${name}.safetensors`),
  );
  const atomically = (folder: string, name: string) => [
    ...['open', 'write', 'sync'].map((kind) => `${kind} ${folder}.${name}.PID.tmp`),
    `rename ${folder}.${name}.PID.tmp ${folder}${name}`,
    `sync ${folder.slice(0, -1)}`.trim(),
  ];
  expect(order).toEqual([
    'write log.jsonl',
    'sync log.jsonl',
    'mkdir .tmp-3-PID',
    ...tensors,
    ...atomically('.tmp-3-PID/', 'state.json'),
    'rename .tmp-3-PID checkpoint-000003',
    'sync',
    ...atomically('', 'latest'),
    'remove checkpoint-000002',
  ]);
});

test('a power cut at any moment leaves the checkpoint last told of or a newer one, the best one, and their log', async () => {
  const { operations, remains } = files;
  expect(told.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  let cuts = 0;
  for (const [index, operation] of operations.entries()) {
    // What is not synced changes nothing.
    if (operation.kind === 'write') continue;
    const safe = told.filter((each) => each.operations <= index + 1).at(-1)?.step ?? 0;
    for (const remain of remains[index]!) {
      const folder = materialise(remain);
      const checkpoint = await loadTrainingCheckpoint(folder);
      const where = `operation ${index}, ${JSON.stringify(operation)}`;
      expect([where, (checkpoint?.step ?? 0) >= safe]).toEqual([where, true]);
      if (checkpoint) {
        const state = checkpoint.state as unknown as RunState;
        const log = readFileSync(path.join(folder, 'log.jsonl'), 'utf8');
        expect([where, statSync(path.join(folder, 'log.jsonl')).size >= state.logBytes]).toEqual([where, true]);
        const lines = log.slice(0, state.logBytes).trim().split('\n');
        const logged = lines.map((line) => JSON.parse(line) as { event: string; step: number });
        const steps = logged.filter(({ event }) => event === 'step').map(({ step }) => step);
        expect([where, steps]).toEqual([where, Array.from({ length: state.step }, (_, before) => before + 1)]);
        if (state.bestLoss !== null)
          expect((await openTrainingCheckpoint(folder, state.bestStep)).step).toBe(state.bestStep);
        cuts += 1;
      }
      rmSync(folder, { recursive: true });
    }
  }
  expect(cuts).toBeGreaterThan(100);
});
