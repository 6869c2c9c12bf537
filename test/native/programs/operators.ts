// Usage: node -r ts-node/register/transpile-only operators.ts. Prints what every operator gives, forward and gradient, as one JSON
// line per case and type; the values as base64 of their bytes. The instruction set and the threads come from the environment.
import type { TypedArray } from '../../../lib';
import { evaluateCase, operatorCases } from '../../support/operatorCases';

const bytes = (values: TypedArray | null) => values && Buffer.from(values.buffer, 0, values.byteLength).toString('base64');

async function main(): Promise<void> {
  for (const each of operatorCases) {
    for (const dtype of ['float32', 'float64'] as const) {
      const { outputs, gradients } = await evaluateCase(each, dtype);
      const kinds = outputs.map((output) => Object.prototype.toString.call(output).slice('[object '.length, -1));
      console.log(JSON.stringify({ name: each.name, dtype, kinds, outputs: outputs.map(bytes), gradients: gradients.map(bytes) }));
    }
  }
}

void main();
