import { TransformerXLLMHeadModel, languageModelTask, trainInDirectory } from '../../lib';
import { TestRandom } from './random';

/** A language model of a few hundred weights, for tests of what happens around it. */
export function smallModel(seed = 1, more = {}, device = 'cpu'): TransformerXLLMHeadModel {
  const shape = { nLayer: 1, dModel: 8, dEmbed: 8, nHead: 2, dHead: 4, dInner: 8, memLen: 4 };
  const plain = { vocabSize: 20, cutoffs: [], divVal: 1, tieProjs: [false], clampLen: -1, sameLength: false };
  return new TransformerXLLMHeadModel({ ...plain, ...shape, dropout: 0.1, ...more }, { seed, device });
}

const random = new TestRandom(8);
export const smallText = random.integers(300, 0, 19);
export const smallHeldOut = random.integers(60, 0, 19);

export type RunOptions = Parameters<typeof trainInDirectory<Evaluation>>[0];
type Evaluation = Awaited<ReturnType<typeof import('../../lib').evaluate>>;

/** A run of four steps with a checkpoint and an evaluation at each; `more` changes it. */
export function smallRun(
  model: TransformerXLLMHeadModel,
  directory: string,
  { config, ...more }: Partial<RunOptions> = {},
): ReturnType<typeof trainInDirectory<Evaluation>> {
  return trainInDirectory({
    task: languageModelTask(model, { train: smallText, valid: smallHeldOut }),
    directory,
    config: {
      ...{ batchSize: 2, targetLength: 4, memoryLength: 4, steps: 4, learningRate: 1e-2, seed: 2 },
      evaluation: { interval: 1 },
      checkpoint: { interval: 1, keep: 1 },
      ...config,
    },
    ...more,
  });
}
