import { XlformersError, argumentError } from '../errors';

/** A class against all others. */
export interface ClassScores {
  precision: number;
  recall: number;
  f1: number;
  /** Examples of the class. */
  support: number;
}

export interface ClassificationMetrics {
  /** Examples. */
  count: number;
  accuracy: number;
  /** By class. With two classes, `perClass[1]` holds the binary scores of the positive class. */
  perClass: ClassScores[];
  /** Means over the classes that occur among labels or predictions. */
  macro: Pick<ClassScores, 'precision' | 'recall' | 'f1'>;
  /** Row: class of the example; column: class predicted. */
  confusion: number[][];
}

/**
 * How well predicted classes fit. A ratio whose denominator is 0 (nothing predicted, no example) counts as 0, as scikit-learn's
 * zero_division=0 does, so that no value is ever NaN.
 * @param labels classes in [0, classCount)
 * @param predictions one for each label
 * @throws XlformersError ERR_ARG_SHAPE, ERR_ARG_RANGE
 */
export function classificationMetrics(
  labels: ArrayLike<number>,
  predictions: ArrayLike<number>,
  classCount: number,
): ClassificationMetrics {
  if (labels.length !== predictions.length) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `predictions: got ${predictions.length} values, expected ${labels.length}, one for each label`,
    );
  }
  const confusion = Array.from({ length: classCount }, () => new Array<number>(classCount).fill(0));
  for (let index = 0; index < labels.length; index += 1) {
    const row = confusion[requireClass(`labels[${index}]`, labels[index], classCount)] as number[];
    const column = requireClass(`predictions[${index}]`, predictions[index], classCount);
    row[column] = (row[column] as number) + 1;
  }
  const at = (row: number, column: number) => confusion[row]?.[column] as number;
  const classes = confusion.map((_, index) => index);
  const sum = (term: (index: number) => number) => classes.reduce((total, index) => total + term(index), 0);
  const predicted = (column: number) => sum((row) => at(row, column));
  const support = (row: number) => sum((column) => at(row, column));
  const perClass = classes.map((index): ClassScores => {
    const hits = at(index, index);
    return {
      precision: ratio(hits, predicted(index)),
      recall: ratio(hits, support(index)),
      f1: ratio(2 * hits, predicted(index) + support(index)),
      support: support(index),
    };
  });
  const occurring = perClass.filter((_, index) => predicted(index) + support(index) > 0);
  const mean = (name: 'precision' | 'recall' | 'f1') =>
    ratio(
      occurring.reduce((total, scores) => total + scores[name], 0),
      occurring.length,
    );
  return {
    count: labels.length,
    accuracy: ratio(
      sum((index) => at(index, index)),
      labels.length,
    ),
    perClass,
    macro: { precision: mean('precision'), recall: mean('recall'), f1: mean('f1') },
    confusion,
  };
}

function ratio(numerator: number, denominator: number): number {
  return denominator === 0 ? 0 : numerator / denominator;
}

function requireClass(name: string, value: unknown, classCount: number): number {
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) >= classCount) {
    throw argumentError('ERR_ARG_RANGE', name, value, `a class in [0, ${classCount})`);
  }
  return value as number;
}
