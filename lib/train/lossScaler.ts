/**
 * Dynamic loss scaling for float16, whose gradients would vanish below 6e-8: the loss is multiplied by a scale, gradients are divided
 * by it again in float32. The scale is halved, and the step skipped, when a gradient overflowed; it doubles after many steps in which
 * none did (Micikevicius et al. 2018, "Mixed precision training", section 3.2). Defaults and arithmetic are torch.amp.GradScaler's.
 */

export interface LossScalingConfig {
  /** Default 65536. */
  initialScale: number;
  /** After `growthInterval` good steps in a row. Default 2. */
  growthFactor: number;
  /** After a step that was skipped. Default 0.5. */
  backoffFactor: number;
  /** Default 2000. */
  growthInterval: number;
}

/** What a checkpoint keeps of it. */
export interface LossScalerState {
  scale: number;
  /** Since the scale changed last. */
  goodSteps: number;
  /** Steps skipped so far: they count for schedule and data, not for Adam. */
  skipped: number;
  /** Skipped steps in a row whose scale was below 1. */
  hopeless: number;
}

/** So many steps in a row without a finite gradient, at scales at which nothing is left to gain, are no accident. */
const mostHopeless = 4;

export class LossScaler {
  private current: LossScalerState;

  constructor(private readonly config: LossScalingConfig) {
    this.current = { scale: config.initialScale, goodSteps: 0, skipped: 0, hopeless: 0 };
  }

  /** What the loss of the next step is multiplied by. */
  get scale(): number {
    return this.current.scale;
  }

  get state(): LossScalerState {
    return { ...this.current };
  }

  restore(state: LossScalerState): void {
    this.current = { ...state };
  }

  /** Whether no scale helps. */
  get exhausted(): boolean {
    return this.current.hopeless >= mostHopeless;
  }

  /** @param finite whether all gradients of the step were */
  update(finite: boolean): void {
    const { growthFactor, backoffFactor, growthInterval } = this.config;
    const { scale, goodSteps, skipped, hopeless } = this.current;
    if (!finite) {
      this.current = {
        scale: scale * backoffFactor,
        goodSteps: 0,
        skipped: skipped + 1,
        hopeless: scale < 1 ? hopeless + 1 : 0,
      };
    } else if (goodSteps + 1 < growthInterval) {
      this.current = { scale, goodSteps: goodSteps + 1, skipped, hopeless: 0 };
    } else {
      const grown = scale * growthFactor;
      // The scaled loss is a float32.
      this.current = { scale: Number.isFinite(Math.fround(grown)) ? grown : scale, goodSteps: 0, skipped, hopeless: 0 };
    }
  }
}
