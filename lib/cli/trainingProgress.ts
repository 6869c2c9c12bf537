import type { StepReport } from '../train/trainer';
import type { ProgressBar } from './progressBar';

/** A loss in other terms: its name and its value. */
export type LossFigure = (loss: number) => readonly [name: string, value: string];

export const bitsPerCharacter: LossFigure = (loss) => ['bpc', (loss / Math.LN2).toFixed(3)];

/** Draws each step on the bar: loss, also in other terms, tokens per second (recent steps weigh more), time left. */
export function trainingProgress(
  bar: ProgressBar,
  figure?: LossFigure,
): (report: StepReport, run: { totalSteps: number }) => void {
  let rate = 0;
  let perStep = 0;
  const recent = (mean: number, value: number) => (mean === 0 ? value : 0.9 * mean + 0.1 * value);
  return ({ step, loss, tokens, seconds, lossScale, skipped }, { totalSteps }) => {
    rate = recent(rate, tokens / seconds);
    perStep = recent(perStep, seconds);
    bar.update({
      done: step,
      total: totalSteps,
      fields: [
        ['loss', loss.toFixed(3)],
        ...(figure ? [figure(loss)] : []),
        ['tok/s', Math.round(rate).toLocaleString('en')],
        ...(lossScale === null ? [] : [['scale', skipped ? `${lossScale} (skipped)` : `${lossScale}`] as const]),
      ],
      secondsLeft: (totalSteps - step) * perStep,
    });
  };
}
