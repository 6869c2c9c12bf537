/** How the learning rate runs over the steps, after a linear warm-up from 0. */
export type ScheduleKind = 'cosine' | 'linear' | 'inverse-sqrt' | 'constant';

export const scheduleKinds: readonly ScheduleKind[] = ['cosine', 'linear', 'inverse-sqrt', 'constant'];

export interface ScheduleOptions {
  kind: ScheduleKind;
  /** The highest rate. */
  learningRate: number;
  /** Steps of linear warm-up. */
  warmupSteps: number;
  /** Where cosine and line end. */
  totalSteps: number;
  /** The rate at their end. */
  minimumRate: number;
}

/**
 * Learning rate of a step, counted from 1, as the original train.py: warm-up step / warmupSteps; then
 * cosine: minimum + (rate - minimum) (1 + cos(π step / totalSteps)) / 2; inverse-sqrt: rate sqrt(warmupSteps / step). linear, as XLNet's
 * model_utils.py: from the rate at the end of the warm-up to minimum at the last step.
 */
export function learningRateAt(step: number, options: ScheduleOptions): number {
  const { kind, learningRate, warmupSteps, totalSteps, minimumRate } = options;
  if (step < warmupSteps) return (learningRate * step) / warmupSteps;
  switch (kind) {
    case 'constant':
      return learningRate;
    case 'inverse-sqrt':
      return learningRate * Math.sqrt(Math.max(1, warmupSteps) / step);
    case 'linear': {
      const left = totalSteps > warmupSteps ? (totalSteps - step) / (totalSteps - warmupSteps) : 0;
      return minimumRate + (learningRate - minimumRate) * Math.max(0, left);
    }
    case 'cosine': {
      const progress = Math.min(1, step / totalSteps);
      return minimumRate + ((learningRate - minimumRate) * (1 + Math.cos(Math.PI * progress))) / 2;
    }
  }
}
