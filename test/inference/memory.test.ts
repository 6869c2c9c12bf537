/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { TransformerXLLMHeadModel, XLNetLMHeadModel, generateBatch, type GenerateBatchOptions } from '../../lib';
import { resolveDevice } from '../../lib/device';

const device = resolveDevice('cpu');
const prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [3, 2, 1]];

async function liveBytes(): Promise<number> {
  await device.synchronize();
  return device.memory().liveBytes;
}

test('memory returns to its baseline after every kind of end', async () => {
  const baseline = await liveBytes();
  const xlnet = new XLNetLMHeadModel(
    { vocabSize: 40, dModel: 24, nLayer: 2, nHead: 3, dInner: 40, memLen: null, initializerRange: 0.3 },
    { device: 'cpu' },
  );
  const txl = new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 40, cutoffs: [10, 20], divVal: 2, nLayer: 2, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
      ...{ dInner: 32, memLen: 8, clampLen: -1, compatibility: 'nvidia' },
    },
    { device: 'cpu' },
  );
  const runs: [XLNetLMHeadModel | TransformerXLLMHeadModel, Partial<GenerateBatchOptions>][] = [
    [xlnet, {}],
    [xlnet, { useMems: false }],
    [xlnet, { decoding: 'hf' }],
    [txl, {}],
    [txl, { useMems: false }],
  ];
  // What the models keep for inference is made once.
  const run = async (
    each: (typeof runs)[number],
    more: Partial<GenerateBatchOptions>,
    atToken: (count: number) => unknown = () => false,
  ) => {
    let count = 0;
    for await (const { row } of generateBatch(each[0], prompts, {
      maxTokens: 6,
      segmentLength: 2,
      ...each[1],
      ...more,
    })) {
      expect(row).toBeLessThan(prompts.length);
      count += 1;
      if (atToken(count) === 'break') break;
    }
  };
  for (const each of runs) await run(each, {});
  const warm = await liveBytes();
  for (const each of runs) {
    await run(each, {});
    expect(await liveBytes()).toBe(warm);
    await run(each, {}, (count) => count === 5 && 'break');
    expect(await liveBytes()).toBe(warm);
    for (let stopId = 0; stopId < 40; stopId += 7) await run(each, { stopId, temperature: 1.5, seed: stopId });
    expect(await liveBytes()).toBe(warm);
    // Aborted while the prompt is read, then at some token; never by a clock: XLNet keeps projected positions for its longest text so far.
    for (const abortAt of [0, 1, 6, 12]) {
      const controller = new AbortController();
      const aborted = run(each, { maxTokens: 1e6, signal: controller.signal }, (count) => {
        if (count === abortAt) controller.abort();
      });
      if (abortAt === 0) queueMicrotask(() => controller.abort());
      await expect(aborted).rejects.toThrow(/abort/);
      expect(await liveBytes()).toBe(warm);
    }
  }
  xlnet.dispose();
  txl.dispose();
  expect(await liveBytes()).toBe(baseline);
});
