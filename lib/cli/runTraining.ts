import type { HeldOut, TaskFactory } from '../train/task';
import type { TrainOptions } from '../train/trainConfig';
import { type TrainingResult, trainInDirectory } from '../train/trainingRun';
import { exitCodes } from './common';
import { ProgressBar } from './progressBar';
import { abortOnSignals } from './signals';
import type { TrainFlags } from './trainFlags';
import { type LossFigure, trainingProgress } from './trainingProgress';

/** A training run as the command line prepares it. */
export interface PreparedTraining<Result extends HeldOut> {
  task: TaskFactory<Result>;
  config: TrainOptions;
  /** The tokenizer's. */
  modelFiles?: ReadonlyMap<string, Uint8Array>;
  /** A training loss in other terms, for the progress bar. */
  lossFigure?: LossFigure;
  /** An evaluation in a line: "loss 1.2345, perplexity 3.44". */
  describe: (evaluation: Result) => string;
  /** What is done with the finished model: lines to print, and fields of the JSON. */
  conclude?: (result: TrainingResult<Result>, signal: AbortSignal) => Promise<Conclusion>;
}

interface Conclusion {
  lines: string[];
  json: object;
}

/** Trains with a progress bar, saves on signals, reports. Sets the exit code. */
export async function runTraining<Result extends HeldOut>(
  prepared: PreparedTraining<Result>,
  { out, resume, json }: TrainFlags,
): Promise<void> {
  const { task, config, modelFiles, lossFigure, describe } = prepared;
  const controller = new AbortController();
  const release = abortOnSignals(controller);
  const bar = new ProgressBar(process.stderr, 'training');
  try {
    const result = await trainInDirectory({
      ...{ task, config, modelFiles, directory: out, resume, signal: controller.signal },
      onStep: trainingProgress(bar, lossFigure),
      onEvaluation: (evaluation, step) => {
        bar.end();
        process.stderr.write(`step ${step}: held-out ${describe(evaluation)}\n`);
      },
      onSkipped: (directory, reason) => process.stderr.write(`passed over ${directory}: ${reason}\n`),
    });
    bar.end();
    const conclusion = result.outcome === 'interrupted' ? null : await concluded(prepared, result, controller.signal);
    if (conclusion === null) {
      process.exitCode = exitCodes.interrupted;
      const line = `Interrupted and saved at step ${result.step}. Continue with the same command and --resume.`;
      const interrupted = { ...result, outcome: 'interrupted', directory: out };
      process.stdout.write(`${json ? JSON.stringify(interrupted) : line}\n`);
      return;
    }
    const best =
      result.bestLoss === null ? '' : `, best held-out loss ${result.bestLoss.toFixed(4)} at step ${result.bestStep}`;
    const lines = [
      `Done at step ${result.step}${best}. Model: ${out}/model, loss curve: ${out}/loss.svg`,
      ...conclusion.lines,
    ];
    process.stdout.write(
      json ? `${JSON.stringify({ ...result, directory: out, ...conclusion.json })}\n` : `${lines.join('\n')}\n`,
    );
  } finally {
    release();
  }
}

/** Null when a signal came in between: a resumed run finds its training done, and concludes. */
async function concluded<Result extends HeldOut>(
  { conclude }: PreparedTraining<Result>,
  result: TrainingResult<Result>,
  signal: AbortSignal,
): Promise<Conclusion | null> {
  try {
    return (await conclude?.(result, signal)) ?? { lines: [], json: {} };
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}
