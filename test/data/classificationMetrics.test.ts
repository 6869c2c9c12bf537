import { classificationMetrics } from '../../lib/data/classificationMetrics';

describe('classificationMetrics', () => {
  test('two classes', () => {
    // 3 hits, 1 false alarm, 2 misses, 4 rightly left alone.
    const labels = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
    const predictions = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0];
    const { count, accuracy, perClass, macro, confusion } = classificationMetrics(labels, predictions, 2);
    expect([count, accuracy]).toEqual([10, 0.7]);
    expect(confusion).toEqual([
      [4, 1],
      [2, 3],
    ]);
    expect(perClass[1]).toEqual({ precision: 3 / 4, recall: 3 / 5, f1: 2 / 3, support: 5 });
    expect(perClass[0]).toEqual({ precision: 4 / 6, recall: 4 / 5, f1: 8 / 11, support: 5 });
    expect(macro.f1).toBeCloseTo((2 / 3 + 8 / 11) / 2, 15);
    expect(macro.precision).toBeCloseTo((3 / 4 + 4 / 6) / 2, 15);
    expect(macro.recall).toBeCloseTo(0.7, 15);
  });

  test('three classes, as the example of the scikit-learn manual', () => {
    // f1_score(y_true, y_pred, average='macro') = 0.26..., precision 0.22..., recall 0.33...
    const { macro, accuracy } = classificationMetrics([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], 3);
    expect(macro.f1).toBeCloseTo(0.8 / 3, 15);
    expect(macro.precision).toBeCloseTo(2 / 9, 15);
    expect(macro.recall).toBeCloseTo(1 / 3, 15);
    expect(accuracy).toBeCloseTo(1 / 3, 15);
  });

  test('a class that is never predicted has precision 0, one that never occurs recall 0', () => {
    const { perClass } = classificationMetrics([0, 0, 1], [0, 2, 0], 3);
    expect(perClass[1]).toEqual({ precision: 0, recall: 0, f1: 0, support: 1 });
    expect(perClass[2]).toEqual({ precision: 0, recall: 0, f1: 0, support: 0 });
  });

  test('classes that occur nowhere do not lower the means', () => {
    const { macro, perClass } = classificationMetrics([0, 1], [0, 1], 5);
    expect(macro).toEqual({ precision: 1, recall: 1, f1: 1 });
    expect(perClass[4]).toEqual({ precision: 0, recall: 0, f1: 0, support: 0 });
  });

  test('no examples give zeros', () => {
    const { count, accuracy, macro } = classificationMetrics([], [], 2);
    expect({ count, accuracy, macro }).toEqual({ count: 0, accuracy: 0, macro: { precision: 0, recall: 0, f1: 0 } });
  });

  test.each<[ArrayLike<number>, ArrayLike<number>, string]>([
    [[0, 1], [0], 'predictions: got 1 values, expected 2'],
    [[0, 2], [0, 1], 'labels[1]: got 2, expected a class in [0, 2)'],
    [[0, 1], [0, -1], 'predictions[1]: got -1'],
    [[NaN], [0], 'labels[0]: got NaN'],
    [[0], [0.5], 'predictions[0]: got 0.5'],
  ])('refuses %p, %p', (labels, predictions, message) => {
    expect(() => classificationMetrics(labels, predictions, 2)).toThrow(message);
  });
});
