import type { StepReport } from '../train/trainer';
import type { ProgressBar } from './progressBar';

/** Draws each step on the bar: loss, bits per character, tokens per second (recent steps weigh more), time left. */
export function trainingProgress(bar: ProgressBar): (report: StepReport, run: { totalSteps: number }) => void {
  let rate = 0;
  return ({ step, loss, tokens, seconds }, { totalSteps }) => {
    const now = tokens / seconds;
    rate = rate === 0 ? now : 0.9 * rate + 0.1 * now;
    bar.update({
      done: step,
      total: totalSteps,
      fields: [
        ['loss', loss.toFixed(3)],
        ['bpc', (loss / Math.LN2).toFixed(3)],
        ['tok/s', Math.round(rate).toLocaleString('en')],
      ],
      secondsLeft: ((totalSteps - step) * tokens) / rate,
    });
  };
}
