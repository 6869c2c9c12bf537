import { XlformersError } from '../errors';
import { type Rules, applyRules, choiceRule, integerRule, numberRule } from '../options';
import type { Decayed } from './adam';
import type { LossScalingConfig } from './lossScaler';
import { type ScheduleKind, scheduleKinds } from './schedule';

/** Segments and memory of an evaluation; they may differ from training. */
export interface EvaluationConfig {
  /** Steps between evaluations; 0: only at the end. */
  interval: number;
  /** Tokens per segment. */
  targetLength: number;
  /** Rows of memory. */
  memoryLength: number;
  /** Streams side by side. */
  batchSize: number;
  /** Batches per evaluation; 0: the whole text. */
  maxBatches: number;
  /** Evaluations without improvement after which training stops; 0: never. */
  patience: number;
  /** What counts as an improvement of the loss, in nats per token. */
  minimumImprovement: number;
}

/** What a training computes in; weights, their gradients and the optimizer are float32 always. */
export type Precision = 'float32' | 'bfloat16' | 'float16';

export const precisions: readonly Precision[] = ['float32', 'bfloat16', 'float16'];

export interface CheckpointConfig {
  /** Which weights `model/` gets: those of the lowest held-out loss where there are evaluations, or those of the last step. */
  final: 'best' | 'last';
  /** Steps between checkpoints; 0: only at the end and on a signal. */
  interval: number;
  /** Newest ones kept, beside the best. */
  keep: number;
}

/** Everything about a training run but the model and the text. */
export interface TrainConfig {
  /** Rows of a batch, over all micro-batches. */
  batchSize: number;
  /** Tokens per segment. */
  targetLength: number;
  /** Rows of memory during training. */
  memoryLength: number;
  /** Micro-batches per step: the rows are split among them, each part with its own memory. */
  accumulation: number;
  /** Optimizer steps. */
  steps: number;
  optimizer: 'adam' | 'adamw';
  learningRate: number;
  minimumRate: number;
  schedule: ScheduleKind;
  warmupSteps: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /**
   * What decays. 'matrices': all but biases and layer-norm weights (parameters of one dimension), as XLNet is trained; its r_w_bias,
   * r_r_bias and r_s_bias do decay, in the original too. 'all': everything, as torch.optim without parameter groups.
   */
  decayed: Decayed;
  /**
   * Layer l of n learns at layerDecay^(n - 1 - l) of the rate; embeddings and heads at all of it. 1: all the same. XLNet's recipe for
   * SQuAD has 0.75.
   */
  layerDecay: number;
  /** Largest global gradient norm; 0: no clipping. */
  clipNorm: number;
  seed: number;
  /** Mixed precision for devices that compute in 16 bits; evaluations compute in it too. */
  precision: Precision;
  /** Of float16. */
  lossScaling: LossScalingConfig;
  evaluation: EvaluationConfig;
  checkpoint: CheckpointConfig;
}

/** What a caller gives: everything optional. */
export type TrainOptions = Partial<Omit<TrainConfig, 'lossScaling' | 'evaluation' | 'checkpoint'>> & {
  lossScaling?: Partial<LossScalingConfig>;
  evaluation?: Partial<EvaluationConfig>;
  checkpoint?: Partial<CheckpointConfig>;
};

const nested = { fallback: {}, accepts: () => true, expected: 'an object' };

const rules: Rules<TrainConfig> = {
  batchSize: integerRule(8, 1, 65_536),
  targetLength: integerRule(128, 1, 1 << 20),
  memoryLength: integerRule(128, 0, 1 << 20),
  accumulation: integerRule(1, 1, 65_536),
  steps: integerRule(1000, 1),
  optimizer: choiceRule('adam', ['adam', 'adamw']),
  learningRate: numberRule(2.5e-4, 0, 1e3),
  minimumRate: numberRule(0, 0, 1e3),
  schedule: choiceRule('cosine', scheduleKinds),
  warmupSteps: integerRule(0, 0),
  beta1: numberRule(0.9, 0, 0.999_999_999),
  beta2: numberRule(0.999, 0, 0.999_999_999),
  epsilon: numberRule(1e-8, 0, 1),
  weightDecay: numberRule(0, 0, 1e3),
  decayed: choiceRule('matrices', ['matrices', 'all']),
  layerDecay: numberRule(1, 1e-9, 1),
  clipNorm: numberRule(0.25, 0),
  seed: integerRule(1, 0),
  precision: choiceRule('float32', precisions),
  lossScaling: nested,
  evaluation: nested,
  checkpoint: nested,
};

/** @throws XlformersError ERR_CONFIG naming the option */
export function resolveTrainConfig(given: TrainOptions): TrainConfig {
  const config = applyRules<TrainConfig>('train', rules, given);
  if (config.batchSize % config.accumulation !== 0) {
    throw new XlformersError(
      'ERR_CONFIG',
      `train.accumulation: got ${config.accumulation}, expected a divisor of batchSize ${config.batchSize}`,
    );
  }
  const evaluationRules: Rules<EvaluationConfig> = {
    interval: integerRule(0, 0),
    targetLength: integerRule(config.targetLength, 1, 1 << 20),
    memoryLength: integerRule(config.memoryLength, 0, 1 << 20),
    batchSize: integerRule(config.batchSize, 1, 65_536),
    maxBatches: integerRule(0, 0),
    patience: integerRule(0, 0),
    minimumImprovement: numberRule(0, 0),
  };
  const scalingRules: Rules<LossScalingConfig> = {
    initialScale: numberRule(65_536, 2 ** -24, 2 ** 120),
    growthFactor: numberRule(2, 1, 2 ** 20),
    backoffFactor: numberRule(0.5, 2 ** -20, 0.999),
    growthInterval: integerRule(2000, 1),
  };
  const checkpointRules: Rules<CheckpointConfig> = {
    final: choiceRule('best', ['best', 'last']),
    interval: integerRule(0, 0),
    keep: integerRule(2, 1),
  };
  return {
    ...config,
    lossScaling: applyRules('train.lossScaling', scalingRules, config.lossScaling),
    evaluation: applyRules('train.evaluation', evaluationRules, config.evaluation),
    checkpoint: applyRules('train.checkpoint', checkpointRules, config.checkpoint),
  };
}
