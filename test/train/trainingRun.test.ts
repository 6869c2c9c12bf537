/** What a run leaves: the best model, its files or an error that names one; and what signals and bad numbers do to it. */
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLLMHeadModel, evaluate, languageModelTask } from '../../lib';
import type { SafetensorsEntry } from '../../lib/checkpoints/safetensors';
import { loadTrainingCheckpoint, saveTrainingCheckpoint } from '../../lib/checkpoints/trainingCheckpoint';
import { RunLog, readRunLog } from '../../lib/train/runLog';
import { smallHeldOut, smallModel, smallRun, smallText, type RunOptions } from '../support/smallRun';
import { TracedFiles, type Operation } from '../support/tracedFiles';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-run-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const fresh = (name: string) => mkdtempSync(path.join(scratch, `${name}-`));

const hashOf = (...file: string[]) =>
  createHash('sha256')
    .update(readFileSync(path.join(...file)))
    .digest('hex');

describe('the best checkpoint', () => {
  // Each step is too long: the first ones learn, the later ones spoil.
  const config = { steps: 12, learningRate: 0.3, clipNorm: 0, schedule: 'constant' as const };
  const protocol = { targetLength: 4, memoryLength: 4, batchSize: 2 };

  test('stays on the disk and is what model/ has: it evaluates to bestLoss', async () => {
    const directory = fresh('best');
    const model = smallModel();
    const result = await smallRun(model, directory, { config });
    expect(result.bestStep).toBeGreaterThan(0);
    expect(result.bestStep).toBeLessThan(result.step);
    expect(result.evaluation!.loss).toBeGreaterThan(result.bestLoss!);
    const name = (step: number) => `checkpoint-${String(step).padStart(6, '0')}`;
    expect(readdirSync(directory).filter((each) => each.startsWith('checkpoint-'))).toEqual([
      name(result.bestStep),
      name(result.step),
    ]);
    const loaded = await TransformerXLLMHeadModel.fromPretrained(path.join(directory, 'model'), { device: 'cpu' });
    for (const each of [loaded, model]) {
      expect((await evaluate(each, smallHeldOut, protocol)).loss).toBe(result.bestLoss);
      each.dispose();
    }
  });

  test('is found by a resume of the finished run too', async () => {
    const directory = fresh('again');
    const model = smallModel();
    await smallRun(model, directory, { config });
    const before = hashOf(directory, 'model', 'model.safetensors');
    rmSync(path.join(directory, 'model'), { recursive: true });
    await smallRun(smallModel(5), directory, { config, resume: true });
    expect(hashOf(directory, 'model', 'model.safetensors')).toBe(before);
  });

  test('damaged, it is named, and nothing else is passed off as the best', async () => {
    const directory = fresh('damaged');
    const result = await smallRun(smallModel(), directory, { config });
    rmSync(path.join(directory, 'model'), { recursive: true });
    const best = path.join(directory, `checkpoint-${String(result.bestStep).padStart(6, '0')}`);
    writeFileSync(path.join(best, 'model.safetensors'), 'x');
    await expect(smallRun(smallModel(), directory, { config, resume: true })).rejects.toMatchObject({
      code: 'ERR_FILE_READ',
      message: expect.stringContaining(`${best}: cannot be used: model.safetensors has 1 bytes`),
    });
    expect(existsSync(path.join(directory, 'model'))).toBe(false);
  });

  test('without held-out text model/ has the last weights', async () => {
    const directory = fresh('last');
    const model = smallModel();
    const { bestLoss } = await smallRun(model, directory, {
      config,
      task: languageModelTask(model, { train: smallText }),
    });
    expect(bestLoss).toBeNull();
    const loaded = await TransformerXLLMHeadModel.fromPretrained(path.join(directory, 'model'), { device: 'cpu' });
    for (const [name, parameter] of model.parameters()) {
      expect(await loaded.parameters().get(name)!.data()).toEqual(await parameter.data());
    }
  });
});

describe('what cannot be written is named', () => {
  const run = (directory: string, more: Partial<RunOptions> = {}) => smallRun(smallModel(), directory, more);

  test('a file in the way of the directory', async () => {
    const file = path.join(fresh('mkdir'), 'file');
    writeFileSync(file, '');
    await expect(run(path.join(file, 'run'))).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringContaining(`${path.join(file, 'run')}: cannot be written`),
    });
  });

  test.each(['log.jsonl', 'loss.svg', 'latest'])('a folder in the way of %s', async (name) => {
    const directory = fresh('folder');
    mkdirSync(path.join(directory, name, 'full'), { recursive: true });
    const code = name === 'latest' ? 'ERR_CHECKPOINT_WRITE' : 'ERR_FILE_WRITE';
    await expect(run(directory)).rejects.toMatchObject({ code, message: expect.stringContaining(name) });
  });

  test('a file in the way of model/; the checkpoints are there, and the run ends well once it is gone', async () => {
    const directory = fresh('model');
    writeFileSync(path.join(directory, 'model'), '');
    await expect(run(directory)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringContaining(path.join(directory, 'model')),
    });
    rmSync(path.join(directory, 'model'));
    expect(await run(directory, { resume: true })).toMatchObject({ outcome: 'finished', step: 4 });
    expect(existsSync(path.join(directory, 'model', 'config.json'))).toBe(true);
  });

  const failing = async (directory: string, fails: (operation: Operation) => boolean, code: string) => {
    const files = new TracedFiles(directory);
    files.inject = (operation) => {
      if (!fails(operation)) return;
      throw Object.assign(new Error(`${code}: injected`), { code });
    };
    try {
      return await run(directory).then(
        () => null,
        (error: Error) => error,
      );
    } finally {
      files.restore();
    }
  };

  test.each([
    ['a full disk under the log', 'write', 'log.jsonl', 'ENOSPC', 'ERR_FILE_WRITE'],
    ['a log that cannot be synced', 'sync', 'log.jsonl', 'EIO', 'ERR_FILE_WRITE'],
    ['a read-only file system', 'mkdir', '.tmp-3', 'EROFS', 'ERR_CHECKPOINT_WRITE'],
    ['a full disk under the weights', 'write', 'model.safetensors', 'ENOSPC', 'ERR_CHECKPOINT_WRITE'],
    ['a disk that fails while syncing', 'sync', 'optimizer.safetensors', 'EIO', 'ERR_CHECKPOINT_WRITE'],
    ['a rename that fails', 'rename', '.tmp-3', 'EIO', 'ERR_CHECKPOINT_WRITE'],
    ['an old checkpoint that cannot be removed', 'remove', 'checkpoint-', 'EACCES', 'ERR_FILE_WRITE'],
  ] as const)('%s', async (_, kind, name, code, expected) => {
    const directory = path.join(fresh('inject'), 'run');
    let saved = 0;
    const error = await failing(
      directory,
      (operation) => {
        if (operation.kind === 'rename' && operation.to?.startsWith('checkpoint-')) saved += 1;
        return saved >= 2 && operation.kind === kind && operation.path.includes(name);
      },
      code,
    );
    expect(error).toMatchObject({ name: 'XlformersError', code: expected });
    // "…: cannot be written: ENOSPC: injected", after the file's name.
    expect(error!.message).toContain(`${code}: injected`);
    expect(error!.message).toContain(expected === 'ERR_CHECKPOINT_WRITE' ? 'checkpoint-000003' : name);
    if (expected === 'ERR_CHECKPOINT_WRITE') expect(error!.message).toMatch(/\d+ bytes needed, \d+ free/);
    // An earlier checkpoint loads, and the run goes on to the losses of one that was never disturbed.
    expect((await loadTrainingCheckpoint(directory))!.step).toBeGreaterThanOrEqual(2);
    await run(directory, { resume: true });
    const other = path.join(fresh('undisturbed'), 'run');
    await run(other);
    expect(hashOf(directory, 'model', 'model.safetensors')).toBe(hashOf(other, 'model', 'model.safetensors'));
    const losses = async (folder: string) =>
      (await readRunLog(path.join(folder, 'log.jsonl'))).map(({ event, step, loss }) => ({ event, step, loss }));
    expect(await losses(directory)).toEqual(await losses(other));
  });

  test('a directory that vanishes during the run: later checkpoints are whole, the lost best one is named', async () => {
    const directory = path.join(fresh('vanish'), 'run');
    const error = await run(directory, {
      onStep: ({ step }) => {
        if (step === 2) rmSync(directory, { recursive: true });
      },
    }).then(
      () => null,
      (reason: Error) => reason,
    );
    expect(error).toMatchObject({ code: 'ERR_FILE_READ', message: expect.stringContaining('checkpoint-000001') });
    expect((await loadTrainingCheckpoint(directory))!.step).toBe(4);
  });

  test('a disk that fills up (a real one of 64 KiB where this process may mount it)', async () => {
    const folder = fresh('disk');
    const directory = path.join(folder, 'run');
    const config = { checkpoint: { interval: 1, keep: 9 } };
    const disk = mountSmallDisk(folder);
    const files = new TracedFiles(directory);
    if (!disk) {
      files.inject = ({ kind, path: name }) => {
        if (kind === 'write' && name.startsWith('.tmp-3')) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      };
    }
    try {
      await expect(smallRun(smallModel(), directory, { config })).rejects.toMatchObject({
        code: 'ERR_CHECKPOINT_WRITE',
        message: expect.stringMatching(/ENOSPC.*\d+ bytes needed, \d+ free/),
      });
      expect((await loadTrainingCheckpoint(directory))!.step).toBeGreaterThanOrEqual(1);
      expect(readdirSync(directory).filter((name) => name.startsWith('.tmp'))).toEqual([]);
    } finally {
      files.restore();
      if (disk) execFileSync('umount', [folder]);
    }
  });
});

function mountSmallDisk(folder: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('numbers that are not finite', () => {
  test('evaluate names the batch and the first bad parameter, and leaves the model as it was', async () => {
    const model = smallModel();
    model.train();
    const [name, parameter] = [...model.parameters()].find(([key]) => key.includes('CoreNet.0.weight'))!;
    parameter.overwrite(new Float32Array(parameter.size).fill(NaN));
    const evaluation = evaluate(model, smallHeldOut, { targetLength: 4, memoryLength: 9 });
    await expect(evaluation).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: `evaluation: loss NaN in batch 0 (position 0); first in ${name} (value)`,
    });
    expect([model.training, model.memoryLength]).toEqual([true, 4]);
  });

  test('an evaluation of any task whose loss is no number ends the run, the checkpoints intact', async () => {
    const directory = fresh('nan');
    const make = languageModelTask(smallModel(), { train: smallText, valid: smallHeldOut });
    let evaluations = 0;
    const task: RunOptions['task'] = (config) => {
      const made = make(config);
      const evaluateOnce = async () => ({ ...(await made.evaluate!()), ...(++evaluations === 3 ? { loss: NaN } : {}) });
      return { ...made, evaluate: evaluateOnce };
    };
    await expect(smallRun(smallModel(), directory, { task })).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringMatching(/evaluation after step 3: loss NaN/),
    });
    expect((await loadTrainingCheckpoint(directory))!.step).toBe(2);
  });

  test.each([
    ['model.safetensors', NaN],
    ['optimizer.safetensors', Infinity],
    ['optimizer.safetensors', NaN],
    ['mems.safetensors', -Infinity],
  ])('a resume from %s with %d names the file and the tensor', async (poisoned, value) => {
    const directory = fresh('poisoned');
    await smallRun(smallModel(), directory, { config: { steps: 2 } });
    const { step, state, open } = (await loadTrainingCheckpoint(directory))!;
    const files = new Map<string, SafetensorsEntry[]>();
    let victim = '';
    for (const name of ['model.safetensors', 'optimizer.safetensors', 'mems.safetensors']) {
      const file = await open(name);
      const list: SafetensorsEntry[] = [];
      for (const [tensor, { dtype, shape }] of file.tensors) {
        list.push({ name: tensor, dtype, shape: [...shape], data: await file.read(tensor) });
      }
      await file.close();
      files.set(name, list);
      if (name !== poisoned) continue;
      const { name: tensor, data } = list.at(-1)!;
      victim = tensor;
      new Float32Array(data.buffer).fill(value, -1);
    }
    // The hashes are those of the poisoned files: nothing but the numbers is wrong.
    await saveTrainingCheckpoint(directory, { step, files, state }, { keep: 2 });
    await expect(smallRun(smallModel(), directory, { config: { steps: 2 }, resume: true })).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringMatching(`${poisoned}: tensor '${victim}' holds ${value}`),
    });
  });
});

test('what a dead process left half written goes at the next start; what a living one writes stays', async () => {
  const directory = path.join(fresh('leftovers'), 'run');
  // More than any system counts to: the number of a process that has ended may be another's by now.
  const dead = 2 ** 22 + 1;
  const living = process.ppid;
  mkdirSync(directory);
  const names = (pid: number) => [`.tmp-3-${pid}`, `.latest.${pid}.tmp`, `.loss.svg.${pid}-7.tmp`];
  for (const name of [...names(dead), ...names(living)]) {
    if (name.startsWith('.tmp')) mkdirSync(path.join(directory, name));
    else writeFileSync(path.join(directory, name), 'half');
  }
  writeFileSync(path.join(directory, '.notes.tmp'), 'not ours');
  await smallRun(smallModel(), directory);
  const hidden = readdirSync(directory).filter((name) => name.startsWith('.'));
  expect(hidden.sort()).toEqual([...names(living), '.notes.tmp'].sort());
});

describe('the log', () => {
  test('a line cut short is left out, no file is an empty log, and what cannot be read is named', async () => {
    const directory = fresh('log');
    const file = path.join(directory, 'log.jsonl');
    expect(await readRunLog(file)).toEqual([]);
    writeFileSync(file, '{"event":"evaluation","step":1,"loss":2}\n{"event":"eval');
    expect(await readRunLog(file)).toEqual([{ event: 'evaluation', step: 1, loss: 2 }]);
    await expect(readRunLog(directory)).rejects.toMatchObject({
      code: 'ERR_FILE_READ',
      message: expect.stringContaining(`${directory}: cannot be read`),
    });
  });

  test('once closed, it says which file cannot be written', async () => {
    const file = path.join(fresh('closed'), 'log.jsonl');
    const log = await RunLog.open(file, 0);
    await log.close();
    for (const use of [() => log.append({ event: 'evaluation', step: 1, loss: 2 }), () => log.sync()]) {
      await expect(use()).rejects.toMatchObject({ code: 'ERR_FILE_WRITE', message: expect.stringContaining(file) });
    }
  });
});

test('a run of before there was a choice of precision, and names of classes, goes on as if nothing had been', async () => {
  const [whole, directory] = [fresh('whole'), fresh('older')];
  const lossesOf = async (folder: string) => (await readRunLog(path.join(folder, 'log.jsonl'))).map(({ loss }) => loss);
  await smallRun(smallModel(), whole);
  const stop = new AbortController();
  const onStep = ({ step }: { step: number }) => void (step === 2 && stop.abort());
  expect((await smallRun(smallModel(), directory, { signal: stop.signal, onStep })).outcome).toBe('interrupted');
  const file = path.join(directory, 'checkpoint-000002', 'state.json');
  const { sha256: _, ...content } = JSON.parse(readFileSync(file, 'utf8')) as {
    state: Record<string, unknown>;
    sha256: string;
  };
  delete content.state.lossScaler;
  const config = content.state.config as Record<string, unknown>;
  for (const name of ['precision', 'lossScaling']) expect(delete config[name]).toBe(true);
  delete (content.state.modelConfig as Record<string, unknown>).labelNames;
  const sha256 = createHash('sha256').update(JSON.stringify(content)).digest('hex');
  writeFileSync(file, JSON.stringify({ ...content, sha256 }));
  const onSkipped = (_: string, reason: string) => expect(reason).toBe('');
  expect((await smallRun(smallModel(), directory, { resume: true, onSkipped })).outcome).toBe('finished');
  expect(await lossesOf(directory)).toEqual(await lossesOf(whole));
  expect(hashOf(directory, 'model', 'model.safetensors')).toBe(hashOf(whole, 'model', 'model.safetensors'));
});
