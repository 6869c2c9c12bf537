/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { generateBatch, TransformerXLLMHeadModel, type GeneratedBatchToken } from '../../lib';
import { device } from '../support/operators';

const options = { maxTokens: 20, seed: [1, 2] };
const prompts = [
  [5, 7, 2],
  [1, 30, 4, 4, 9, 21, 8, 3],
];

test('a step that was enqueued ahead is left without a trace when the texts end', async () => {
  const model = new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 40, cutoffs: [10, 20], divVal: 2, nLayer: 2, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
      ...{ dInner: 32, memLen: 7, clampLen: 5, initStd: 0.3 },
    },
    { device, seed: 5 },
  );
  const live = async () => {
    await model.device.synchronize();
    return model.device.memory().liveBytes;
  };
  const generated = async (more: object, after: (count: number) => void = () => {}) => {
    const tokens: GeneratedBatchToken[] = [];
    for await (const token of generateBatch(model, prompts, { ...options, ...more })) {
      tokens.push(token);
      after(tokens.length);
    }
    return tokens;
  };
  const all = await generated({});
  const before = await live();
  for (const end of [3, 8, 17]) {
    const tokens = generateBatch(model, prompts, options);
    for (let count = 0; count < end; count += 1) expect((await tokens.next()).value).toEqual(all[count]);
    await tokens.return(undefined);
    expect(await live()).toBe(before);
    const controller = new AbortController();
    const abort = (count: number) => count === end && controller.abort(new Error('enough'));
    await expect(generated({ signal: controller.signal }, abort)).rejects.toThrow('enough');
    expect(await live()).toBe(before);
    await generated({ stopId: all[end]!.id });
    expect(await live()).toBe(before);
  }
  model.dispose();
});
