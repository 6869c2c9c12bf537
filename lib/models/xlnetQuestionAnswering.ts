/** XLNet for extractive question answering: independent start and end, and beams of starts with an end for each. */
import { XlformersError, describe } from '../errors';
import { activation } from '../ops/activation';
import { add } from '../ops/add';
import { widened } from '../ops/cast';
import { binaryCrossEntropy } from '../ops/elementLoss';
import { embedding } from '../ops/embedding';
import { layerNorm } from '../ops/layerNorm';
import { linear } from '../ops/linear';
import { mapRows } from '../ops/mapRows';
import { maskedFill } from '../ops/maskedFill';
import { mean } from '../ops/mean';
import { concatenate, permute, reshape, slice } from '../ops/shape';
import { topProbabilities } from '../ops/topProbabilities';
import { scope } from '../scope';
import { type Parameter, Tensor } from '../tensor';
import { ignoredLabel } from './classificationLoss';
import type { ModelOptions, PretrainedOptions } from './pretrainedModel';
import { XLNetBase, type XLNetInputs, type XLNetOutput } from './xlnet';
import type { XLNetOptions } from './xlnetConfig';
import { HeadProjection, isHeadWeight, tokenLoss, XLNetWithHead } from './xlnetHeads';
import { hidingMask, type MaskInput } from './xlnetInputs';

/** Positions of tokens, one for each sequence. */
export type PositionInput = readonly number[];

export interface XLNetQuestionAnsweringSimpleInputs extends XLNetInputs {
  /** [batch]: where the answer starts; a position beyond the segment counts for nothing. */
  startPositions?: PositionInput;
  /** [batch]: its last token. */
  endPositions?: PositionInput;
}

export interface XLNetQuestionAnsweringSimpleOutput extends XLNetOutput {
  /** [batch, L] */
  startLogits: Tensor;
  /** [batch, L] */
  endLogits: Tensor;
  /** A scalar; null unless both positions are given. */
  loss: Tensor | null;
}

/** Start and end of the answer, each by a linear layer. */
export class XLNetForQuestionAnsweringSimple extends XLNetWithHead {
  private readonly outputs: HeadProjection;

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { dModel, numLabels } = this.config;
    if (numLabels !== 2) {
      throw new XlformersError('ERR_CONFIG', `config.numLabels: got ${numLabels}, expected 2 (start and end)`);
    }
    this.outputs = new HeadProjection(this.weights, 'qa_outputs', [2, dModel], this.config);
  }

  /** A folder or hub id; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<XLNetForQuestionAnsweringSimple> {
    return XLNetBase.load(
      nameOrPath,
      options,
      (config) => new XLNetForQuestionAnsweringSimple(config, options),
      'transformer.',
      isHeadWeight,
    );
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: XLNetQuestionAnsweringSimpleInputs): XLNetQuestionAnsweringSimpleOutput {
    return scope(() => {
      const out = this.transformer.forward(inputs);
      const [batch, length] = out.lastHiddenState.shape as [number, number, number];
      const logits = this.outputs.forward(out.lastHiddenState);
      const column = (index: number) => reshape(slice(logits, 2, index, index + 1), [batch, length]);
      const [startLogits, endLogits] = [column(0), column(1)];
      const { startPositions, endPositions } = inputs;
      let loss: Tensor | null = null;
      if (startPositions && endPositions) {
        // Hugging Face clamps to [0, length] and ignores `length`.
        const label = (position: number) => (position >= length ? ignoredLabel : Math.max(0, position));
        const start = this.positionTensor('startPositions', startPositions.map(label), batch);
        const end = this.positionTensor('endPositions', endPositions.map(label), batch);
        loss = add(tokenLoss(startLogits, start), tokenLoss(endLogits, end), { alpha: 0.5, beta: 0.5 });
      }
      return { ...out, startLogits, endLogits, loss };
    });
  }

  protected override get architecture(): string {
    return 'XLNetForQuestionAnsweringSimple';
  }

  private positionTensor(name: string, positions: readonly number[], batch: number): Tensor {
    return checkedPositions(name, positions, batch, ignoredLabel, 2 ** 31, this);
  }
}

export interface XLNetQuestionAnsweringInputs extends XLNetInputs {
  /** [batch]: with endPositions, the loss is computed instead of beams. */
  startPositions?: PositionInput;
  endPositions?: PositionInput;
  /** [batch]: 1 where there is no answer. With clsIndex, adds its loss. */
  isImpossible?: readonly number[];
  /** [batch]: position of `<cls>`. Default: the last token. */
  clsIndex?: PositionInput;
  /** [batch, L]: 1 for tokens that cannot be in an answer (question, padding, specials). */
  pMask?: MaskInput;
}

export interface XLNetQuestionAnsweringOutput extends XLNetOutput {
  /** A scalar; null without positions. */
  loss: Tensor | null;
  /** [batch, startNTop], descending: probabilities, in spite of the name, which is Hugging Face's. null with positions. */
  startTopLogProbs: Tensor | null;
  /** int32 [batch, startNTop] */
  startTopIndex: Tensor | null;
  /** [batch, startNTop endNTop], all starts of the best end first. */
  endTopLogProbs: Tensor | null;
  /** int32 [batch, startNTop endNTop] */
  endTopIndex: Tensor | null;
  /** [batch]: high where there is no answer. */
  clsLogits: Tensor | null;
}

/** The end of an answer given its start: tanh, layer norm and linear layers over both states. */
class EndLogits {
  private readonly dense: HeadProjection;
  private readonly score: HeadProjection;
  private readonly normWeight: Parameter;
  private readonly normBias: Parameter;

  constructor(private readonly model: XLNetBase) {
    const { weights, config } = model;
    const { dModel } = config;
    this.dense = new HeadProjection(weights, 'end_logits.dense_0', [dModel, 2 * dModel], config);
    this.normWeight = weights.create('end_logits.LayerNorm.weight', [dModel], { kind: 'constant', value: 1 });
    this.normBias = weights.create('end_logits.LayerNorm.bias', [dModel], { kind: 'constant', value: 0 });
    this.score = new HeadProjection(weights, 'end_logits.dense_1', [1, dModel], config);
  }

  /**
   * The layer over [state; start] is a sum of a layer over states and one over starts: starts are projected once, not at each token.
   * @param states [batch, length, dModel]
   * @param starts [batch, starts, dModel]
   * @returns [batch, starts, length]
   */
  forward(states: Tensor, starts: Tensor): Tensor {
    const [batch, length, columns] = states.shape as [number, number, number];
    const count = starts.shape[1] as number;
    const operand = (parameter: Parameter) => this.model.weights.operand(parameter);
    const [weight, bias] = [operand(this.dense.weight), operand(this.dense.bias as Parameter)];
    const byState = linear(states, slice(weight, 1, 0, columns), { bias });
    const byStart = linear(starts, slice(weight, 1, columns, 2 * columns));
    const spread = (rows: Tensor, index: (b: number, start: number, token: number) => number) => {
      const ids = new Int32Array(batch * count * length);
      let at = 0;
      for (let b = 0; b < batch; b += 1) {
        for (let start = 0; start < count; start += 1) {
          for (let token = 0; token < length; token += 1) ids[at++] = index(b, start, token);
        }
      }
      const table = reshape(rows, [rows.size / columns, columns]);
      return embedding(Tensor.from(ids, [batch, count, length], { device: this.model.device }), table);
    };
    const sum = add(
      spread(byState, (b, _, token) => b * length + token),
      spread(byStart, (b, start) => b * count + start),
    );
    const { layerNormEps: epsilon } = this.model.config;
    const normed = layerNorm(activation(sum, 'tanh'), operand(this.normWeight), operand(this.normBias), { epsilon });
    return reshape(this.score.forward(normed), [batch, count, length]);
  }
}

/** Beams of starts, for each the best ends, and whether there is an answer at all. */
export class XLNetForQuestionAnswering extends XLNetWithHead {
  private readonly startScore: HeadProjection;
  private readonly endLogits: EndLogits;
  private readonly answerDense: HeadProjection;
  private readonly answerScore: HeadProjection;

  constructor(options: XLNetOptions, modelOptions: ModelOptions = {}) {
    super(options, modelOptions);
    const { weights, config } = this;
    const { dModel } = config;
    this.startScore = new HeadProjection(weights, 'start_logits.dense', [1, dModel], config);
    this.endLogits = new EndLogits(this);
    this.answerDense = new HeadProjection(weights, 'answer_class.dense_0', [dModel, 2 * dModel], config);
    this.answerScore = new HeadProjection(weights, 'answer_class.dense_1', [1, dModel], config, false);
  }

  /** A folder or hub id; a head that the checkpoint lacks keeps its initial weights. */
  static fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<XLNetForQuestionAnswering> {
    return XLNetBase.load(
      nameOrPath,
      options,
      (config) => new XLNetForQuestionAnswering(config, options),
      'transformer.',
      isHeadWeight,
    );
  }

  /** Enqueues a forward pass and returns at once. */
  forward(inputs: XLNetQuestionAnsweringInputs): XLNetQuestionAnsweringOutput {
    return scope(() => {
      const out = this.transformer.forward(inputs);
      const states = out.lastHiddenState;
      const [batch, length] = states.shape as [number, number, number];
      const hidden = inputs.pMask ? hidingMask('pMask', inputs.pMask, [batch, length], this.device) : null;
      const mask = (logits: Tensor) => (hidden ? maskedFill(logits, hidden, hiddenScore(logits)) : logits);
      const startLogits = mask(reshape(this.startScore.forward(states), [batch, length]));
      const { startPositions, endPositions } = inputs;
      const none = { loss: null, startTopLogProbs: null, startTopIndex: null, endTopLogProbs: null, endTopIndex: null };
      if (startPositions && endPositions) {
        const start = this.positions('startPositions', startPositions, states);
        const end = this.positions('endPositions', endPositions, states);
        const startStates = gatherStates(states, startPositions);
        const endLogits = mask(reshape(this.endLogits.forward(states, startStates), [batch, length]));
        const span = add(tokenLoss(startLogits, start), tokenLoss(endLogits, end), { alpha: 0.5, beta: 0.5 });
        return { ...out, ...none, clsLogits: null, loss: this.withAnswerLoss(span, states, startStates, inputs) };
      }
      return { ...out, ...none, ...this.beams(states, startLogits, hidden, inputs) };
    });
  }

  protected override get architecture(): string {
    return 'XLNetForQuestionAnswering';
  }

  /** Half the loss of "is there an answer" on top, as the original scales it. */
  private withAnswerLoss(
    span: Tensor,
    states: Tensor,
    startStates: Tensor,
    { clsIndex, isImpossible }: XLNetQuestionAnsweringInputs,
  ): Tensor {
    if (!clsIndex || !isImpossible) return span;
    const [batch] = states.shape as [number];
    if (isImpossible.length !== batch) {
      throw new XlformersError('ERR_ARG_SHAPE', `isImpossible: got ${isImpossible.length} numbers, expected ${batch}`);
    }
    const logits = this.answerLogits(states, startStates, clsIndex);
    const scores = widened(logits);
    const target = Tensor.from([...isImpossible], [batch], { device: this.device, dtype: scores.dtype });
    return add(span, mean(binaryCrossEntropy(scores, target)), { beta: 0.5 });
  }

  /** @param startStates [batch, 1, dModel] */
  private answerLogits(states: Tensor, startStates: Tensor, clsIndex: PositionInput | undefined): Tensor {
    const [batch, length, columns] = states.shape as [number, number, number];
    if (clsIndex) this.positions('clsIndex', clsIndex, states);
    const cls = gatherStates(states, clsIndex ?? new Array<number>(batch).fill(length - 1));
    const both = concatenate([reshape(startStates, [batch, columns]), reshape(cls, [batch, columns])], 1);
    return reshape(this.answerScore.forward(activation(this.answerDense.forward(both), 'tanh')), [batch]);
  }

  private beams(states: Tensor, startLogits: Tensor, hidden: Tensor | null, inputs: XLNetQuestionAnsweringInputs) {
    const [batch, length, columns] = states.shape as [number, number, number];
    const { startNTop, endNTop } = this.config;
    if (length < Math.max(startNTop, endNTop)) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `inputIds: got ${length} tokens, expected at least startNTop ${startNTop} and endNTop ${endNTop}`,
      );
    }
    const starts = topProbabilities(startLogits, startNTop);
    const row = (tensor: Tensor, b: number) => slice(tensor, 0, b, b + 1);
    const startStates = concatenate(
      Array.from({ length: batch }, (_, b) =>
        embedding(row(starts.indices, b), reshape(row(states, b), [length, columns])),
      ),
    );
    const logits = this.endLogits.forward(states, startStates);
    const repeated = hidden && this.repeatRows(hidden, startNTop);
    const ends = topProbabilities(repeated ? maskedFill(logits, repeated, hiddenScore(logits)) : logits, endNTop);
    const endFirst = (tensor: Tensor) => reshape(permute(tensor, [0, 2, 1]), [batch, startNTop * endNTop]);
    const weighted = mapRows(states, reshape(starts.probabilities, [batch, 1, length]));
    return {
      startTopLogProbs: starts.top,
      startTopIndex: starts.indices,
      endTopLogProbs: endFirst(ends.top),
      endTopIndex: endFirst(ends.indices),
      clsLogits: this.answerLogits(states, weighted, inputs.clsIndex),
    };
  }

  /** [batch, length] to [batch, count, length]. */
  private repeatRows(mask: Tensor, count: number): Tensor {
    const [batch, length] = mask.shape as [number, number];
    const once = reshape(mask, [batch, 1, length]);
    return concatenate(new Array<Tensor>(count).fill(once), 1);
  }

  private positions(name: string, positions: PositionInput, states: Tensor): Tensor {
    const [batch, length] = states.shape as [number, number, number];
    return checkedPositions(name, positions, batch, 0, length, this);
  }
}

/** Of tokens that cannot be in an answer: -1e30, or as low as float16 goes. */
function hiddenScore({ dtype }: Tensor): number {
  return dtype === 'float16' ? -65_504 : -1e30;
}

/** States at one position of each sequence: [batch, 1, dModel]. */
function gatherStates(states: Tensor, positions: PositionInput): Tensor {
  const [batch, length, columns] = states.shape as [number, number, number];
  const ids = Int32Array.from(positions, (position, b) => b * length + position);
  const rows = reshape(states, [batch * length, columns]);
  return embedding(Tensor.from(ids, [batch, 1], { device: states.device }), rows);
}

/** int32 [batch]. @throws XlformersError ERR_ARG_SHAPE, ERR_ARG_RANGE naming the position */
function checkedPositions(
  name: string,
  positions: readonly number[],
  batch: number,
  lowest: number,
  end: number,
  { device }: XLNetBase,
): Tensor {
  if (!Array.isArray(positions) || positions.length !== batch) {
    throw new XlformersError('ERR_ARG_SHAPE', `${name}: got ${describe(positions)}, expected ${batch} numbers`);
  }
  positions.forEach((position, index) => {
    if (!Number.isInteger(position) || (position as number) < lowest || (position as number) >= end) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `${name}[${index}]: got ${describe(position)}, expected a position in [${lowest}, ${end})`,
      );
    }
  });
  return Tensor.from(Int32Array.from(positions as number[]), [batch], { device });
}
