/**
 * Operators in bfloat16 and float16 against float64 from the same operands, which are exact in both: outputs and gradients. Sums run in
 * float32 and statistics are float32, so that what is left are the roundings of what is stored.
 */
import { Tensor } from '../../lib';
import { epsilon, expectClose, onDevice, tensor } from '../support/operators';
import { evaluateCase, operatorCases } from '../support/operatorCases';
import { shortTypes } from '../support/shortFloats';

/** Elements are moved. */
const moves = /^(cast|maskedFill|binaryMask|reshape and permute|slice|concatenate|memoryUpdate|activation, relu)$/;
/** An output is rounded once; the others pass through rows, scores, probabilities or products of 16 bits before. */
const once =
  /^(linear(?!.*(dropout|residual))|mapRows|activation|add|scale|dropout|squaredError|binaryCrossEntropy|layerNorm|embedding|sinusoid|softmax|mean|top|sample|globalNorm|fill)/;
/**
 * Roundings to the type on the way of a gradient or of a staged output: what the forward pass stored, probabilities, their gradients, the
 * result. Errors of the terms of a sum have random signs, so that each stage counts once relative to the largest element.
 */
const stages = 4;

/** |actual - expected| <= bounds + slack * max(1, largest |expected|), element by element. */
function expectWithin(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bounds: Float64Array,
  slack: number,
  what: string,
): void {
  const scale = bounds.reduce((most, _, index) => Math.max(most, Math.abs(expected[index]!)), 1);
  const excess = bounds.map((bound, index) => Math.abs(actual[index]! - expected[index]!) - bound - slack * scale);
  const where = excess.indexOf(Math.max(...excess));
  expect([what, where, excess[where]! <= 0 || excess[where]]).toEqual([what, where, true]);
}

// Adam's weights are float32.
const cases = operatorCases.filter(({ name }) => !name.startsWith('adam'));

describe.each(shortTypes)('%s', (dtype) => {
  const roundoff = epsilon[dtype] / 2;

  test.each(cases.map((each) => [each.name, each] as const))('%s', async (name, each) => {
    const short = await evaluateCase(each, dtype, dtype);
    const double = await evaluateCase(each, 'float64', dtype);
    const slack = 64 * epsilon.float32;
    const forward = (moves.test(name) ? 0 : once.test(name) ? roundoff : stages * roundoff) + slack;
    short.outputs.forEach((output, index) => expectClose(output, double.outputs[index]!, forward, `output ${index}`));
    const bounds = await each.gradientRounding?.(double, roundoff);
    short.gradients.forEach((gradient, index) => {
      const exact = double.gradients[index]!;
      expect(gradient === null).toBe(exact === null);
      if (!gradient) return;
      const bound = bounds?.[index];
      if (bound) expectWithin(gradient, exact, bound, slack, `gradient ${index}`);
      else expectClose(gradient, exact, (moves.test(name) ? 0 : stages * roundoff) + slack, `gradient ${index}`);
    });
  });

  test('values are rounded once where tensors are made and filled', async () => {
    const ulp = epsilon[dtype];
    const value = 1 + ulp / 2 + 2 ** -40;
    for (const made of [Tensor.full([3], value, { ...onDevice, dtype }), tensor([value, value, value], [3], dtype)]) {
      expect([...(await made.data())]).toEqual([1 + ulp, 1 + ulp, 1 + ulp]);
    }
  });

  test("losses, means and norms are float32, gradients of the operand's type", async () => {
    const named = (name: string) => operatorCases.find((each) => each.name === name)!;
    for (const name of [
      'softmaxCrossEntropy',
      'meanNonzero',
      'meanLabelled',
      'squaredError',
      'adaptiveSoftmaxLoss',
      'globalNorm',
    ]) {
      const inputs = named(name).shapes.map((shape) =>
        tensor(new Float64Array(shape.reduce((a, b) => a * b, 1)), shape, dtype),
      );
      for (const output of named(name).run(inputs, dtype)) expect([name, output.dtype]).toEqual([name, 'float32']);
    }
    const x = Tensor.from([1, 2], [2], { ...onDevice, dtype, requiresGrad: true });
    const [loss] = named('meanNonzero').run([x], dtype) as [Tensor];
    loss.backward();
    expect(x.grad!.dtype).toBe(dtype);
  });
});
