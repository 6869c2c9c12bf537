import { readdirSync } from 'node:fs';
import {
  type Memory,
  Tensor,
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  TransformerXLModel,
  scope,
} from '../../lib';
import { agreements, fixturePath, type GoldenTensor, readGolden, readJson } from '../support/fixtures';
import { device } from '../support/operators';

interface Case {
  class: string;
  calls: { inputs: string[]; flags: Record<string, boolean>; outputs: string[]; memsFromPreviousCall: boolean }[];
  gradients: string | null;
}

type AnyModel = TransformerXLModel | TransformerXLLMHeadModel | TransformerXLForSequenceClassification;

const classes: Record<string, { fromPretrained(directory: string, options: object): Promise<AnyModel> }> = {
  TransfoXLModel: TransformerXLModel,
  TransfoXLLMHeadModel: TransformerXLLMHeadModel,
  TransfoXLForSequenceClassification: TransformerXLForSequenceClassification,
};

const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

function inputTensor(name: string, { shape, values }: GoldenTensor, model: AnyModel, dtype: 'float32' | 'float64') {
  const integral = name === 'input_ids' || name === 'labels';
  if (name === 'input_ids') {
    const [rows, length] = shape as [number, number];
    return Array.from({ length: rows }, (_, row) => Array.from(values).slice(row * length, (row + 1) * length));
  }
  return Tensor.from(Array.from(values), shape, { device: model.device, dtype: integral ? 'int32' : dtype });
}

describe.each(readdirSync(fixturePath('hf')).filter((name) => name.startsWith('txl-')))('%s', (name) => {
  test.each(agreements)(
    'agrees with Hugging Face in $precision: outputs, losses, gradients',
    async ({ precision, dtype, output: expectOutput, gradient: expectGradient }) => {
      const folder = fixturePath('hf', name);
      const { class: className, calls, gradients } = readJson<Case>(folder, 'case.json');
      const golden = await readGolden(folder);
      const model = await classes[className]!.fromPretrained(folder, { device, dtype });
      model.setPrecision(precision);
      const at = (key: string) => golden.get(key)!;
      let mems: Memory | undefined;
      for (const [index, call] of calls.entries()) {
        const inputs: Record<string, unknown> = {};
        for (const input of call.inputs)
          inputs[camel(input)] = inputTensor(input, at(`in.${index}.${input}`), model, dtype);
        for (const [flag, value] of Object.entries(call.flags)) inputs[camel(flag)] = value;
        if (call.memsFromPreviousCall) inputs.mems = mems;
        const out = (model.forward as unknown as (given: object) => Record<string, unknown>)(inputs);
        const layers = (out.mems as Memory | null)?.layers ?? [];
        for (const output of call.outputs) {
          const [field, position] = output.split('.') as [string, string | undefined];
          const value = field === 'mems' ? layers : out[camel(field)];
          const tensor = (position === undefined ? value : (value as Tensor[])[Number(position)]) as Tensor;
          const expected = at(`out.${index}.${output}`);
          const actual = await tensor.data();
          if (field === 'losses') {
            // Hugging Face groups losses by cluster, this package keeps the order of positions: the same set of numbers.
            const sorted = (list: ArrayLike<number>) => Float64Array.from(list).sort();
            expectOutput(output, sorted(actual), sorted(expected.values));
            expect(tensor.shape).toEqual(expected.shape);
            continue;
          }
          expect([output, ...tensor.shape]).toEqual([output, ...expected.shape]);
          expectOutput(`call ${index} ${output}`, actual, expected.values);
        }
        mems = (out.mems as Memory | null) ?? undefined;
        if (gradients && index === calls.length - 1) (out.loss as Tensor).backward();
      }
      if (gradients) {
        const names = [...golden.keys()].filter((key) => key.startsWith('grad.')).map((key) => key.slice(5));
        expect(names.length).toBeGreaterThan(10);
        for (const parameter of names) {
          const { grad } = model.parameters().get(parameter) ?? {};
          if (!grad) throw new Error(`no gradient for ${parameter}`);
          expectGradient(`gradient of ${parameter}`, await grad.data(), at(`grad.${parameter}`).values, 0);
        }
        expect(new Set(model.parameters().keys())).toEqual(new Set(names));
      }
      scope(() => model.dispose());
    },
  );
});
