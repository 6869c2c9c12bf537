import path from 'node:path';
import { makeDirectory, writeFileAtomically } from '../checkpoints/atomicFile';
import { requireFinite } from '../checkpoints/finite';
import {
  loadTrainingCheckpoint,
  openTrainingCheckpoint,
  saveTrainingCheckpoint,
} from '../checkpoints/trainingCheckpoint';
import type { SafetensorsEntry, SafetensorsFile } from '../checkpoints/safetensors';
import { floatTypes } from '../checkpoints/safetensorsHeader';
import { dtypeDetail, type FloatDType } from '../dtype';
import { XlformersError } from '../errors';
import { Generator } from '../random';
import { keep } from '../scope';
import { Tensor } from '../tensor';
import { plantedFault } from './fault';
import { lossCurve } from './lossCurve';
import { RunLog, readRunLog } from './runLog';
import type { LogEntry, RunState } from './runState';
import { type StepReport, Trainer } from './trainer';
import type { HeldOut, TaskFactory } from './task';
import { type TrainOptions, resolveTrainConfig } from './trainConfig';

export interface TrainingRunOptions<Result extends HeldOut> {
  /** Model and data, as `languageModelTask`, `permutationTask` or `classificationTask` has them. On resume the weights are replaced. */
  task: TaskFactory<Result>;
  /** Where checkpoints, log and curve go. */
  directory: string;
  config?: TrainOptions;
  /** Files that go beside the model into `model/`, by name: its tokenizer's. */
  modelFiles?: ReadonlyMap<string, Uint8Array>;
  /** Continues from the newest good checkpoint of the directory, if there is one. Default false: the directory must hold none. */
  resume?: boolean;
  /** Saves at the end of the current micro-step and returns with `interrupted`. */
  signal?: AbortSignal;
  onStep?: (report: StepReport, run: { totalSteps: number }) => void;
  onEvaluation?: (evaluation: Result, step: number) => void;
  onCheckpoint?: (directory: string, step: number) => void;
  /** A checkpoint that was passed over, and why. */
  onSkipped?: (directory: string, reason: string) => void;
}

export interface TrainingResult<Result extends HeldOut = HeldOut> {
  /** `finished`: all steps done, or no improvement for `patience` evaluations. `interrupted`: saved and to be resumed. */
  outcome: 'finished' | 'stopped-early' | 'interrupted';
  step: number;
  bestLoss: number | null;
  bestStep: number;
  /** The last evaluation made; read from the log, as JSON has it, where an earlier process made it. */
  evaluation: Result | null;
  /** The one of `bestStep`. */
  bestEvaluation: Result | null;
}

/**
 * A training run in a directory: checkpoints that survive a kill at any moment, a log without gaps or repetitions, the loss curve
 * (`loss.svg`) and the finished model (`model/`). A resumed run gives the losses of an uninterrupted one, bit for bit. In the end the
 * model has the weights that were saved: those of the lowest held-out loss where there were evaluations and `checkpoint.final` is
 * 'best', else those of the last step.
 * @throws XlformersError ERR_CHECKPOINT_EXISTS, ERR_CHECKPOINT_MISMATCH, ERR_CHECKPOINT_WRITE, ERR_FILE_READ, ERR_FILE_WRITE naming the
 *   file or folder, ERR_NOT_FINITE naming the step, or the tensor of a checkpoint; checkpoints made so far are then untouched
 */
export async function trainInDirectory<Result extends HeldOut>(
  options: TrainingRunOptions<Result>,
): Promise<TrainingResult<Result>> {
  const { task, directory, config, signal } = options;
  await makeDirectory(directory);
  const trainer = new Trainer(task, config);
  try {
    const run = new Run(options, trainer);
    await run.restore();
    return await run.loop(signal);
  } finally {
    trainer.dispose();
  }
}

class Run<Result extends HeldOut> {
  private bestLoss: number | null = null;
  private bestStep = 0;
  /** By step, those made by this process. */
  private readonly evaluations = new Map<number, Result>();
  private sinceBest = 0;
  private logBytes = 0;
  private readonly fault = plantedFault();
  private evaluatedStep = 0;
  private savedStep = -1;

  constructor(
    private readonly options: TrainingRunOptions<Result>,
    private readonly trainer: Trainer<Result>,
  ) {}

  async restore(): Promise<void> {
    const { directory, resume = false, onSkipped } = this.options;
    const { model } = this.trainer.task;
    const checkpoint = await loadTrainingCheckpoint(directory, { onSkipped });
    if (checkpoint === null) return;
    if (!resume) {
      throw new XlformersError(
        'ERR_CHECKPOINT_EXISTS',
        `${directory}: holds a run at step ${checkpoint.step}; resume it (--resume), or choose another directory`,
      );
    }
    const state = checkpoint.state as unknown as RunState;
    this.requireSameRun(state);
    const weights = await checkpoint.open('model.safetensors');
    const moments = await checkpoint.open('optimizer.safetensors');
    const mems = await checkpoint.open('mems.safetensors');
    try {
      for (const [name, parameter] of model.parameters()) await load(weights, name, parameter);
      for (const [name, moment] of this.trainer.optimizer.state()) await load(moments, name, moment);
      const layers: Tensor[] = [];
      for (let layer = 0; mems.tensors.has(`mems.${layer}`); layer += 1) {
        const { shape } = mems.tensors.get(`mems.${layer}`) as { shape: readonly number[] };
        const tensor = keep(Tensor.zeros(shape, { device: model.device, dtype: model.precision }));
        await load(mems, `mems.${layer}`, tensor);
        layers.push(tensor);
      }
      const { step, epoch, position } = state;
      this.trainer.restore({ step, epoch, position }, layers, state.lossScaler ?? null);
      for (const layer of layers) layer.dispose();
    } finally {
      await Promise.all([weights.close(), moments.close(), mems.close()]);
    }
    model.generator = Generator.from(state.generator);
    this.bestLoss = state.bestLoss;
    this.bestStep = state.bestStep;
    this.sinceBest = state.sinceBest;
    this.evaluatedStep = state.evaluatedStep;
    this.logBytes = state.logBytes;
    this.savedStep = state.step;
  }

  async loop(signal?: AbortSignal): Promise<TrainingResult<Result>> {
    const { trainer, options } = this;
    const { config } = trainer;
    const log = await RunLog.open(path.join(options.directory, 'log.jsonl'), this.logBytes);
    let outcome: TrainingResult['outcome'] = 'finished';
    try {
      for (;;) {
        const { step } = trainer.position;
        const due = (interval: number) => step > 0 && interval > 0 && step % interval === 0;
        const evaluates = due(config.evaluation.interval) || trainer.finished;
        // An evaluation that a signal cut short is still owed after the resume.
        if (trainer.task.evaluate && evaluates && this.evaluatedStep !== step && !signal?.aborted) {
          await this.evaluate(step, log, signal);
        }
        if (due(config.checkpoint.interval)) await this.save(log);
        if (trainer.finished && !signal?.aborted) break;
        if (config.evaluation.patience > 0 && this.sinceBest >= config.evaluation.patience) {
          outcome = 'stopped-early';
          break;
        }
        if (signal?.aborted) {
          outcome = 'interrupted';
          break;
        }
        await this.step(log, config.steps, signal);
      }
      await this.save(log);
    } finally {
      await log.close();
    }
    await this.finish(outcome);
    return this.result(outcome);
  }

  /** One optimizer step, unless the signal comes between its micro-batches: it is then repeated after the resume. */
  private async step(log: RunLog, totalSteps: number, signal?: AbortSignal): Promise<void> {
    let report: StepReport;
    try {
      report = await this.trainer.step(signal);
    } catch (error) {
      if (signal?.aborted) return;
      throw error;
    }
    const { step, loss, learningRate, gradientNorm, tokens, seconds, lossScale, skipped } = report;
    const tokensPerSecond = Math.round(tokens / seconds);
    await log.append({
      ...{ event: 'step', step, loss: finiteOrNull(loss), learningRate, gradientNorm: finiteOrNull(gradientNorm) },
      ...{ tokensPerSecond, ...(lossScale === null ? {} : { lossScale, skipped }) },
    });
    this.logBytes = log.bytes;
    this.options.onStep?.(report, { totalSteps });
  }

  /** Leaves no trace when the signal cuts it short. */
  private async evaluate(step: number, log: RunLog, signal?: AbortSignal): Promise<void> {
    let evaluation: Result;
    try {
      evaluation = (await this.trainer.evaluate(signal)) as Result;
    } catch (error) {
      if (signal?.aborted) return;
      throw error;
    }
    this.evaluations.set(step, evaluation);
    const { loss } = evaluation;
    if (!Number.isFinite(loss)) {
      throw new XlformersError(
        'ERR_NOT_FINITE',
        `evaluation after step ${step}: loss ${loss}; the last checkpoint is intact`,
      );
    }
    const { minimumImprovement } = this.trainer.config.evaluation;
    if (this.bestLoss === null || loss < this.bestLoss - minimumImprovement) {
      this.bestLoss = loss;
      this.bestStep = step;
      this.sinceBest = 0;
    } else {
      this.sinceBest += 1;
    }
    await log.append({ event: 'evaluation', step, ...evaluation });
    this.logBytes = log.bytes;
    this.evaluatedStep = step;
    this.options.onEvaluation?.(evaluation, step);
    if (this.bestStep === step) await this.save(log);
  }

  private async save(log: RunLog): Promise<void> {
    const { trainer, options } = this;
    const { directory } = options;
    const { model, data } = trainer.task;
    const { step, epoch, position } = trainer.position;
    if (this.savedStep === step) return;
    const layers = trainer.memoryState();
    const state: RunState = {
      format: 'xlformers-training/1',
      step,
      epoch,
      position,
      generator: model.generator.state(),
      lossScaler: trainer.lossScalerState,
      bestLoss: this.bestLoss,
      bestStep: this.bestStep,
      sinceBest: this.sinceBest,
      evaluatedStep: this.evaluatedStep,
      logBytes: this.logBytes,
      config: trainer.config,
      modelConfig: model.config,
      data,
    };
    const files = new Map<string, SafetensorsEntry[]>([
      ['model.safetensors', await entries(model.parameters())],
      ['optimizer.safetensors', await entries(trainer.optimizer.state())],
      ['mems.safetensors', await entries(layers.map((layer, index) => [`mems.${index}`, layer] as const))],
    ]);
    for (const layer of layers) layer.dispose();
    // The state counts the log's bytes: they must not be lost when the state is not.
    await log.sync();
    const saved = await saveTrainingCheckpoint(
      directory,
      { step, files, state: { ...state } },
      {
        keep: trainer.config.checkpoint.keep,
        best: this.bestLoss === null ? undefined : this.bestStep,
        fault: this.fault,
      },
    );
    this.savedStep = step;
    options.onCheckpoint?.(saved, step);
  }

  /** The loss curve, and the model folder, with the best weights, once the run is over. */
  private async finish(outcome: TrainingResult['outcome']): Promise<void> {
    const { directory, modelFiles = new Map<string, Uint8Array>() } = this.options;
    const { task, config } = this.trainer;
    const curve = lossCurve(await this.log(), 'Loss', task.lossUnit);
    await writeFileAtomically(path.join(directory, 'loss.svg'), curve);
    if (outcome === 'interrupted') return;
    if (config.checkpoint.final === 'best') await this.loadBest();
    const folder = path.join(directory, 'model');
    await task.model.save(folder);
    for (const [name, bytes] of modelFiles) await writeFileAtomically(path.join(folder, name), bytes);
  }

  private async loadBest(): Promise<void> {
    if (this.bestLoss === null || this.bestStep === this.trainer.position.step) return;
    const best = await openTrainingCheckpoint(this.options.directory, this.bestStep);
    const weights = await best.open('model.safetensors');
    try {
      for (const [name, parameter] of this.trainer.task.model.parameters()) await load(weights, name, parameter);
    } finally {
      await weights.close();
    }
  }

  private log(): Promise<LogEntry[]> {
    return readRunLog(path.join(this.options.directory, 'log.jsonl'));
  }

  private async result(outcome: TrainingResult['outcome']): Promise<TrainingResult<Result>> {
    const { bestLoss, bestStep } = this;
    const logged = new Map<number, Result>();
    for (const { event, step, ...figures } of await this.log()) {
      if (event === 'evaluation') logged.set(step, figures as unknown as Result);
    }
    const at = (step: number) => this.evaluations.get(step) ?? logged.get(step) ?? null;
    return {
      ...{ outcome, step: this.trainer.position.step, bestLoss, bestStep },
      evaluation: at(Math.max(0, ...logged.keys())),
      bestEvaluation: bestLoss === null ? null : at(bestStep),
    };
  }

  /** @throws XlformersError ERR_CHECKPOINT_MISMATCH naming the first difference that would change the losses */
  private requireSameRun(state: RunState): void {
    const { trainer, options } = this;
    const differences: [name: string, saved: unknown, now: unknown][] = [
      ...differencesOf('data', state.data, trainer.task.data),
      ...differencesOf(
        'model config',
        { ...withoutNames, ...(state.modelConfig as object) },
        trainer.task.model.config,
      ),
      // Another rhythm of checkpoints is fine; everything else would not be the same run.
      ...differencesOf(
        'train config',
        withoutRhythm({ ...withoutPrecision, ...state.config }),
        withoutRhythm(trainer.config),
      ),
    ];
    const first = differences.find(([, saved, now]) => JSON.stringify(saved) !== JSON.stringify(now));
    if (first) {
      const [name, saved, now] = first;
      throw new XlformersError(
        'ERR_CHECKPOINT_MISMATCH',
        `${options.directory}: ${name}: the checkpoint has ${JSON.stringify(saved)}, this run ${JSON.stringify(now)}`,
      );
    }
  }
}

/** What checkpoints do not say that were made before there was a choice. */
const { precision, lossScaling } = resolveTrainConfig({});
const withoutPrecision = { precision, lossScaling };
const withoutNames = { labelNames: null };

/** JSON has no other numbers. */
function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function withoutRhythm({ checkpoint: _, ...config }: Trainer['config']): object {
  return config;
}

function* differencesOf(what: string, saved: object, now: object): Iterable<[string, unknown, unknown]> {
  for (const key of new Set([...Object.keys(saved), ...Object.keys(now)])) {
    yield [`${what}.${key}`, (saved as Record<string, unknown>)[key], (now as Record<string, unknown>)[key]];
  }
}

async function load(file: SafetensorsFile, name: string, into: Tensor): Promise<void> {
  const entry = file.tensors.get(name);
  if (!entry || entry.shape.join() !== into.shape.join()) {
    throw new XlformersError(
      'ERR_CHECKPOINT_MISMATCH',
      `checkpoint: tensor '${name}' ${entry ? `has shape [${entry.shape.join(', ')}]` : 'is missing'}, expected [${into.shape.join(', ')}]`,
    );
  }
  if (entry.dtype !== floatTypes[into.dtype as FloatDType]) {
    throw new XlformersError(
      'ERR_CHECKPOINT_MISMATCH',
      `checkpoint: tensor '${name}' has type ${entry.dtype}, expected ${floatTypes[into.dtype as FloatDType]}`,
    );
  }
  const { buffer } = await file.read(name);
  requireFinite(file.path, name, new (dtypeDetail(into.dtype).array)(buffer), into.dtype);
  into.overwrite(new Uint8Array(buffer));
}

async function entries(tensors: Iterable<readonly [string, Tensor]>): Promise<SafetensorsEntry[]> {
  const list: SafetensorsEntry[] = [];
  for (const [name, tensor] of tensors) {
    const dtype = floatTypes[tensor.dtype as FloatDType];
    list.push({ name, dtype, shape: [...tensor.shape], data: await tensor.bytes() });
  }
  return list;
}
