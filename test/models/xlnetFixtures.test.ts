import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import {
  type Memory,
  type PretrainedModel,
  Tensor,
  XLNetForMultipleChoice,
  XLNetForQuestionAnswering,
  XLNetForQuestionAnsweringSimple,
  XLNetForSequenceClassification,
  XLNetForTokenClassification,
  XLNetLMHeadModel,
  XLNetModel,
} from '../../lib';
import { agreements, fixturePath, type GoldenTensor, largestOf, readGolden, readJson } from '../support/fixtures';
import { device } from '../support/operators';

interface Case {
  class: string;
  calls: { inputs: string[]; flags: Record<string, boolean>; outputs: string[]; memsFromPreviousCall: boolean }[];
  gradients: string | null;
}

type AnyClass = { fromPretrained(directory: string, options: object): Promise<PretrainedModel> };

const classes: Record<string, AnyClass> = {
  XLNetModel,
  XLNetLMHeadModel,
  XLNetForSequenceClassification,
  XLNetForTokenClassification,
  XLNetForMultipleChoice,
  XLNetForQuestionAnswering,
  XLNetForQuestionAnsweringSimple,
};

const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const integral = new Set(['input_ids', 'token_type_ids', 'labels']);
/** One number for each sequence, given as plain numbers. */
const perSequence = new Set(['start_positions', 'end_positions', 'cls_index', 'is_impossible']);

function inputOf(name: string, { shape, values }: GoldenTensor, model: PretrainedModel, dtype: 'float32' | 'float64') {
  if (perSequence.has(name)) return Array.from(values);
  const isInteger = integral.has(name) && Array.from(values).every(Number.isInteger);
  // Regression labels are floats, whatever their values.
  const regression = name === 'labels' && 'config' in model && (model.config as { numLabels: number }).numLabels === 1;
  const device = { device: model.device, dtype: isInteger && !regression ? ('int32' as const) : dtype };
  return Tensor.from(Array.from(values), shape, device);
}

/** The output that Hugging Face names; streams' pairs are flattened there. */
function outputOf(out: Record<string, unknown>, name: string): Tensor {
  const [field, ...indices] = name.split('.');
  if (field === 'mems') return (out.mems as Memory).layers[Number(indices[0])]!;
  const value = out[camel(field!)];
  if (indices.length === 0) return value as Tensor;
  const queries = out[field === 'attentions' ? 'queryAttentions' : 'queryHiddenStates'] as Tensor[] | null;
  if (indices.length === 2) return (indices[1] === '0' ? (value as Tensor[]) : queries!)[Number(indices[0])]!;
  const index = Number(indices[0]);
  if (field === 'hidden_states' && queries) {
    return (index % 2 === 0 ? (value as Tensor[]) : queries)[Math.floor(index / 2)]!;
  }
  return (value as Tensor[])[index]!;
}

describe.each(readdirSync(fixturePath('hf')).filter((name) => name.startsWith('xlnet-')))('%s', (name) => {
  test.each(agreements)('agrees with Hugging Face in $precision', async ({ precision, dtype, ...expectation }) => {
    const folder = fixturePath('hf', name);
    const { class: className, calls, gradients } = readJson<Case>(folder, 'case.json');
    const golden = await readGolden(folder);
    const model = await classes[className]!.fromPretrained(folder, { device, dtype });
    model.setPrecision(precision);
    const at = (key: string) => golden.get(key)!;
    let mems: Memory | undefined;
    for (const [index, call] of calls.entries()) {
      const inputs: Record<string, unknown> = {};
      for (const input of call.inputs) inputs[camel(input)] = inputOf(input, at(`in.${index}.${input}`), model, dtype);
      for (const [flag, value] of Object.entries(call.flags)) inputs[camel(flag)] = value;
      if (call.memsFromPreviousCall) inputs.mems = mems;
      const forward = (model as unknown as { forward(given: object): Record<string, unknown> }).forward.bind(model);
      const out = forward(inputs);
      for (const output of call.outputs) {
        const tensor = outputOf(out, output);
        const expected = at(`out.${index}.${output}`);
        expect([output, ...tensor.shape]).toEqual([output, ...expected.shape]);
        expectation.output(`call ${index} ${output}`, await tensor.data(), expected.values);
      }
      mems = (out.mems as Memory | null) ?? undefined;
      if (gradients && index === calls.length - 1) {
        // Where case.json speaks of squares, its gradients are those of the loss as well.
        (out.loss as Tensor).backward();
      }
    }
    if (gradients) {
      const names = [...golden.keys()].filter((key) => key.startsWith('grad.')).map((key) => key.slice(5));
      expect(names.length).toBeGreaterThan(10);
      const expected = (parameter: string) => at(`grad.${parameter}`).values;
      const largest = Math.max(...names.map((parameter) => largestOf(expected(parameter))));
      for (const parameter of names) {
        const { grad } = model.parameters().get(parameter) ?? {};
        if (!grad && largestOf(expected(parameter)) > 0) throw new Error(`no gradient for ${parameter}`);
        const actual = grad ? await grad.data() : new Float64Array(expected(parameter).length);
        expectation.gradient(`gradient of ${parameter}`, actual, expected(parameter), largest);
      }
    }
    model.dispose();
  });
});

test('every fixture folder has weights', () => {
  for (const name of readdirSync(fixturePath('hf'))) {
    const files = ['model.safetensors', 'pytorch_model.bin'].map((file) => path.join(fixturePath('hf', name), file));
    expect([name, files.some(existsSync)]).toEqual([name, true]);
  }
});
