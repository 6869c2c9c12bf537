import { Command } from 'commander';
import { noGrad, scope, TransformerXLLMHeadModel, type Memory, type TransformerXLOptions } from '../../lib';

const program = new Command('decoding')
  .description(
    'tokens per second of Transformer-XL over a full memory, one token a step and text: passes that copy the memory, and decoding,\n' +
      'which keeps it in a ring and replays a recording; both take turns, medians',
  )
  .option('--rounds <n>', 'measurements per case', '5')
  .option('--device <name>', 'where', 'cpu')
  .parse();

const common: TransformerXLOptions = { clampLen: -1, sameLength: true };
const models: [name: string, options: TransformerXLOptions, memories: number[], steps: number][] = [
  [
    '2 layers of 32',
    { vocabSize: 1000, cutoffs: [], divVal: 1, nLayer: 2, dModel: 32, dEmbed: 32, nHead: 2, dHead: 16, dInner: 64 },
    [16, 160, 1600],
    300,
  ],
  [
    '4 layers of 128',
    {
      ...{ vocabSize: 5000, cutoffs: [1000], divVal: 2, nLayer: 4, dModel: 128, dEmbed: 128, nHead: 4, dHead: 32 },
      dInner: 512,
    },
    [16, 160, 1600],
    100,
  ],
  [
    '16 layers of 410',
    {
      ...{
        vocabSize: 20000,
        cutoffs: [2000, 10000],
        divVal: 4,
        nLayer: 16,
        dModel: 410,
        dEmbed: 410,
        nHead: 10,
        dHead: 41,
      },
      dInner: 2100,
    },
    [64, 640, 1600],
    10,
  ],
];

type Step = (ids: number[]) => Promise<void>;

interface Side {
  step: Step;
  dispose(): void;
}

function passes(model: TransformerXLLMHeadModel): Side {
  let mems: Memory | undefined;
  const step: Step = async (ids) => {
    const out = noGrad(() => scope(() => model.forward({ inputIds: ids.map((id) => [id]), mems })));
    mems?.dispose();
    mems = out.mems as Memory;
    await out.predictionScores?.data();
    out.predictionScores?.dispose();
    out.lastHiddenState.dispose();
  };
  return { step, dispose: () => mems?.dispose() };
}

async function decoding(model: TransformerXLLMHeadModel, batch: number): Promise<Side> {
  const session = model.startDecoding();
  (await session.start(Array.from({ length: batch }, () => Int32Array.of(1)))).dispose();
  const step: Step = async (ids) => {
    const scores = session.step(ids);
    await scores.data();
    scores.dispose();
  };
  return { step, dispose: () => session.dispose() };
}

async function seconds({ step }: Side, steps: number, batch: number): Promise<number> {
  const started = performance.now();
  for (let index = 0; index < steps; index += 1) await step(new Array<number>(batch).fill((index * 7) % 900));
  return (performance.now() - started) / 1000;
}

async function main(): Promise<void> {
  const { rounds, device } = program.opts<{ rounds: string; device: string }>();
  console.log('| model | memory | texts | passes | decoding | ratio |\n|---|---|---|---|---|---|');
  for (const [name, options, memories, steps] of models) {
    for (const memLen of memories) {
      const model = new TransformerXLLMHeadModel({ ...common, ...options, memLen }, { device, seed: 1 });
      model.eval();
      for (const batch of [1, 8]) {
        const sides = [passes(model), await decoding(model, batch)] as const;
        for (const side of sides) await seconds(side, 3, batch);
        const times: [number[], number[]] = [[], []];
        for (let round = 0; round < Number(rounds); round += 1) {
          for (const side of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
            times[side].push(await seconds(sides[side], steps, batch));
          }
        }
        for (const side of sides) side.dispose();
        const [slow, fast] = times.map((each) => {
          const median = each.sort((a, b) => a - b)[each.length >> 1] as number;
          return (steps * batch) / median;
        }) as [number, number];
        console.log(
          `| ${name} | ${memLen} | ${batch} | ${slow.toFixed(1)} | ${fast.toFixed(1)} | **${(fast / slow).toFixed(2)}** |`,
        );
      }
      model.dispose();
    }
  }
}

void main();
