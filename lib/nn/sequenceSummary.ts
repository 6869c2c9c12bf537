import { activation, type Activation } from '../ops/activation';
import { scale } from '../ops/add';
import { dropout } from '../ops/dropout';
import { linear } from '../ops/linear';
import { mapRows } from '../ops/mapRows';
import { reshape, slice } from '../ops/shape';
import type { Generator } from '../random';
import { type Parameter, Tensor } from '../tensor';
import type { Initializer, Parameters } from './parameters';

export interface SequenceSummaryOptions {
  dModel: number;
  /** Which vector stands for the sequence; 'cls_index' is the last one, as no head of Hugging Face's gives an index. */
  type: 'last' | 'first' | 'mean' | 'cls_index';
  /** Columns of the projection; null: none. */
  projection: number | null;
  activation: Activation;
  firstDropout: number;
  lastDropout: number;
  weightInit: Initializer;
}

/** One vector for a sequence: Hugging Face's XLNetSequenceSummary. */
export class SequenceSummary {
  private readonly weight: Parameter | null;
  private readonly bias: Parameter | null;

  constructor(
    private readonly parameters: Parameters,
    prefix: string,
    private readonly options: SequenceSummaryOptions,
  ) {
    const { dModel, projection, weightInit } = options;
    this.weight = projection === null ? null : parameters.create(`${prefix}weight`, [projection, dModel], weightInit);
    this.bias =
      projection === null ? null : parameters.create(`${prefix}bias`, [projection], { kind: 'constant', value: 0 });
  }

  /**
   * @param states [batch, length, dModel]
   * @returns [batch, projection or dModel]
   */
  forward(states: Tensor, { training, generator }: { training: boolean; generator: Generator }): Tensor {
    const { activation: kind, firstDropout, lastDropout } = this.options;
    const drop = (x: Tensor, probability: number) => dropout(x, { probability: training ? probability : 0, generator });
    const picked = drop(this.pick(states), firstDropout);
    const operand = (parameter: Parameter | null) => parameter && this.parameters.operand(parameter);
    const weight = operand(this.weight);
    const projected = weight ? linear(picked, weight, { bias: operand(this.bias) }) : picked;
    return drop(kind === 'none' ? projected : activation(projected, kind), lastDropout);
  }

  private pick(states: Tensor): Tensor {
    const [batch, length, columns] = states.shape as [number, number, number];
    const { type } = this.options;
    if (type === 'mean') {
      const { dtype, device } = states;
      // 1/length in two factors: a power of two, which every type holds, and the rest, which is not rounded to 16 bits.
      const power = 2 ** Math.floor(Math.log2(length));
      const shares = Tensor.full([batch, 1, length], 1 / power, { dtype, device });
      return reshape(scale(mapRows(states, shares), power / length), [batch, columns]);
    }
    const row = type === 'first' ? 0 : length - 1;
    return reshape(slice(states, 1, row, row + 1), [batch, columns]);
  }
}
