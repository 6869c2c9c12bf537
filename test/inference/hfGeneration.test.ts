/** Decoding 'hf' beside what Hugging Face's own `generate` gave: scripts/reference/xlnet_generation.py makes the fixture. */
import path from 'node:path';
import { XLNetLMHeadModel, generate, generateBatch, type GenerativeModel } from '../../lib';
import { fixturePath, readGolden, readJson } from '../support/fixtures';
import { expectClose } from '../support/operators';

interface Case {
  prompts: number[][];
  use_mems: boolean | null;
  mem_len: number | null;
  tokens: number[][];
}

const folder = fixturePath('hf-generation');
const { source, steps, cases } = readJson<{ source: string; steps: number; cases: Record<string, Case> }>(
  folder,
  'case.json',
);

/** The weights of the fixture, spread as the script spreads them. */
async function loadModel(memoryLength: number | null): Promise<XLNetLMHeadModel> {
  const model = await XLNetLMHeadModel.fromPretrained(path.join(folder, '..', source), { device: 'cpu' });
  for (const [name, parameter] of model.parameters()) {
    const factor = name === 'transformer.word_embedding.weight' ? 20 : /rel_attn\.[qkvor]$/.test(name) ? 4 : 1;
    parameter.overwrite(((await parameter.data()) as Float32Array).map((value) => value * factor));
  }
  model.resetMemoryLength(memoryLength);
  return model;
}

describe.each(Object.entries(cases))('%s', (name, { prompts, use_mems: given, mem_len: memoryLength, tokens }) => {
  const options = { decoding: 'hf' as const, ...(given !== null && { useMems: given }) };
  let model: XLNetLMHeadModel;
  beforeAll(async () => (model = await loadModel(memoryLength)));
  afterAll(() => model.dispose());

  test('tokens are those of Hugging Face', async () => {
    const drawn: number[][] = prompts.map(() => []);
    for await (const { row, id } of generateBatch(model, prompts, { ...options, maxTokens: steps, temperature: 0 })) {
      drawn[row]!.push(id);
    }
    expect(drawn).toEqual(tokens);
  });

  test('logits are those of Hugging Face at every step', async () => {
    const { shape, values } = (await readGolden(folder)).get(`${name}.logits`)!;
    const expected = Array.from(values);
    const [, texts, vocabSize] = shape as [number, number, number];
    const session = model.startDecoding(options);
    let scores = await session.start(prompts.map((prompt) => Int32Array.from(prompt)));
    for (let step = 0; step < steps; step += 1) {
      const size = texts * vocabSize;
      // Both in float32, 3 layers on logits of about 100: 1e-4 of the largest, as for the other fixtures.
      expectClose(await scores.data(), expected.slice(step * size, (step + 1) * size), 1e-4, `${name} step ${step}`);
      scores.dispose();
      if (step + 1 < steps) scores = session.step(tokens.map((row) => row[step]!));
    }
    session.dispose();
  });
});

test('memory changes what Hugging Face generates, but nothing in exact decoding', async () => {
  expect(cases.mems!.tokens).not.toEqual(cases['no-mems']!.tokens);
  const model = await loadModel(null);
  const collect = async (each: GenerativeModel, useMems: boolean) => {
    const ids: number[] = [];
    const prompt = cases.mems!.prompts[0]!;
    for await (const { id } of generate(each, prompt, { maxTokens: steps, temperature: 0, useMems })) ids.push(id);
    return ids;
  };
  expect(await collect(model, true)).toEqual(await collect(model, false));
  model.dispose();
});
