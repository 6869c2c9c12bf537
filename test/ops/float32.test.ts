/**
 * float32 against float64 from the same operands: outputs and gradients of every operator. The float64 results are themselves held
 * to their definitions and to finite differences, operator by operator, in the other files here.
 */
import * as operators from '../../lib/ops';
import { epsilon, expectClose } from '../support/operators';
import { evaluateCase, operatorCases, toleranceOf } from '../support/operatorCases';

test.each(operatorCases.map((each) => [each.name, each] as const))('%s', async (_, each) => {
  const [single, double] = [await evaluateCase(each, 'float32'), await evaluateCase(each, 'float64')];
  const tolerance = toleranceOf(each, epsilon.float32);
  expect(single.outputs.length).toBeGreaterThan(0);
  single.outputs.forEach((output, index) => expectClose(output, double.outputs[index]!, tolerance, `output ${index}`));
  single.gradients.forEach((gradient, index) => {
    expect(gradient === null).toBe(double.gradients[index] === null);
    if (gradient) expectClose(gradient, double.gradients[index]!, tolerance, `gradient ${index}`);
  });
});

test('no operator is left out', () => {
  const names = operatorCases.map(({ name }) => name).join(' ');
  const missing = Object.keys(operators).filter((name) => !names.includes(name));
  // Packing is an arrangement of linear's operand, and its test compares both.
  expect(missing).toEqual(['packWeight']);
});
