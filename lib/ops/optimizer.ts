import { dtypeDetail, isShortFloat, type ShortFloatDType, statisticsDType } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import {
  requireFloat,
  requireInteger,
  requireSameKind,
  requireSameShape,
  requireShape,
  requireTensors,
} from './checks';

/**
 * The Euclidean norm over all tensors and what clipping to `maxNorm` needs, without waiting for it.
 * @param maxNorm <= 0: no clipping
 * @param scale what the tensors were multiplied by (a loss scale), to be taken out again: the norm is that of tensors / scale. Default 1
 * @returns [3]: the norm; the factor min(1, maxNorm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_, divided by the scale; 1 when the
 *   norm is finite, else 0
 */
export function globalNorm(tensors: readonly Tensor[], maxNorm: number, scale = 1): Tensor {
  requireTensors('tensors', tensors);
  const [first] = tensors;
  tensors.forEach((tensor, index) => requireSameKind(`tensors[${index}]`, tensor, first));
  requireFloat('tensors[0]', first);
  const out = Tensor.empty([3], statisticsDType(first.dtype), first.device);
  native.globalNorm({
    dtype: dtypeDetail(first.dtype).native,
    maxNorm,
    scale,
    out: out.buffer,
    tensors: tensors.map((tensor) => ({ values: tensor.buffer, count: tensor.size })),
  });
  return out;
}

/** One weight of an optimizer step. */
export interface AdamOperand {
  parameter: Tensor;
  gradient: Tensor;
  firstMoment: Tensor;
  secondMoment: Tensor;
  weightDecay: number;
  /** Receives the new parameter, rounded once to its type of 16 bits; the same type for all. Nothing, where nothing changes. */
  copy?: Tensor | null;
}

export interface AdamOptions {
  tensors: readonly AdamOperand[];
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Counts from 1. */
  step: number;
  /** True: AdamW, decay applied to the weight; false: Adam, decay added to the gradient. */
  decoupled: boolean;
  /** The result of `globalNorm`: gradients are multiplied by its factor; nothing changes when the norm was not finite. */
  clip?: Tensor | null;
}

/** One step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019) for all tensors; arithmetic as torch.optim's. */
export function adam({ tensors, clip = null, ...options }: AdamOptions): void {
  const first = tensors[0]?.parameter;
  if (first === undefined) return;
  requireFloat('tensors[0].parameter', first);
  requireInteger('step', options.step, 1);
  tensors.forEach(({ parameter, gradient, firstMoment, secondMoment }, index) => {
    requireSameKind(`tensors[${index}].parameter`, parameter, first);
    requireSameShape(`tensors[${index}].gradient`, gradient, parameter);
    requireSameShape(`tensors[${index}].firstMoment`, firstMoment, parameter);
    requireSameShape(`tensors[${index}].secondMoment`, secondMoment, parameter);
  });
  native.adam({
    dtype: dtypeDetail(first.dtype).native,
    copyDtype: dtypeDetail(copyDTypeOf(tensors)).native,
    ...options,
    clip: clip?.buffer ?? null,
    tensors: tensors.map(({ parameter, gradient, firstMoment, secondMoment, weightDecay, copy }) => ({
      parameter: parameter.buffer,
      gradient: gradient.buffer,
      firstMoment: firstMoment.buffer,
      secondMoment: secondMoment.buffer,
      copy: copy?.buffer ?? null,
      count: parameter.size,
      weightDecay,
    })),
  });
  for (const { parameter, copy } of tensors) {
    parameter.version += 1;
    if (copy) copy.version = parameter.version;
  }
}

/** The type of the copies; any without some. */
function copyDTypeOf(tensors: readonly AdamOperand[]): ShortFloatDType {
  const given = tensors.findIndex(({ copy }) => copy);
  if (given < 0) return 'bfloat16';
  const { dtype } = tensors[given]?.copy as Tensor;
  if (!isShortFloat(dtype)) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `tensors[${given}].copy: got dtype ${dtype}, expected bfloat16 or float16`,
    );
  }
  tensors.forEach(({ parameter, copy }, index) => {
    if (!copy) return;
    requireSameKind(`tensors[${index}].copy`, copy, { dtype, device: parameter.device });
    requireShape(`tensors[${index}].copy`, copy, parameter.shape);
  });
  return dtype;
}
