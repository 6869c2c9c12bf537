import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireIds, requireShape } from './checks';

export interface EmbeddingOptions {
  /** Factor of every row. Default 1. */
  scale?: number;
  /** The id of the table's first row. Default 0. */
  firstId?: number;
  /** Ids outside [firstId, firstId + V) give zero rows instead of an error: one cluster of an adaptive embedding. Default false. */
  partial?: boolean;
}

/**
 * Rows of a table.
 * @param ids int32 [...]; an id outside the table rejects the next read with ERR_TOKEN_ID's native form, naming position and id
 * @param table [V, E]
 * @returns [..., E]
 */
export function embedding(ids: Tensor, table: Tensor, options: EmbeddingOptions = {}): Tensor {
  const { scale = 1, firstId = 0, partial = false } = options;
  requireIds('ids', ids);
  requireFloat('table', table);
  requireShape('table', table, [-1, -1]);
  const [tableRows, columns] = table.shape as [number, number];
  const common = {
    dtype: dtypeDetail(table.dtype).native,
    count: ids.size,
    tableRows,
    columns,
    firstId,
    partial,
    scale,
  };
  const result = Tensor.empty([...ids.shape, columns], table.dtype, table.device);
  native.embedding({ accumulate: false, ids: ids.buffer, table: table.buffer, out: result.buffer, ...common });
  if (needsTape([table])) {
    record({
      name: 'embedding',
      inputs: [table],
      outputs: [result],
      saved: [ids],
      gradient: ([gradient], context) => {
        const { tensor, accumulate } = context.target(0);
        native.embeddingGradient({
          accumulate,
          ids: (context.saved[0] as Tensor).buffer,
          outGradient: (gradient as Tensor).buffer,
          tableGradient: tensor.buffer,
          ...common,
        });
        return [null];
      },
    });
  }
  return result;
}
