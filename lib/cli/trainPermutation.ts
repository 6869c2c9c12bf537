import { splitSentences } from '../data/sentences';
import { readText } from '../data/text';
import type { XLNetOptions } from '../models/xlnetConfig';
import { XLNetLMHeadModel } from '../models/xlnetHeads';
import { type PermutationOptions, permutationTask } from '../train/permutationTask';
import { resolveTrainConfig } from '../train/trainConfig';
import { runTraining } from './runTraining';
import { type TrainFlags, defined, readConfigFile, trainOptions } from './trainFlags';
import { xlnetOptions, xlnetRecipe, xlnetStart } from './xlnetSetup';

const dataNames: readonly (keyof PermutationOptions)[] = [
  'reuseLen',
  'permSize',
  'numPredict',
  'maskAlpha',
  'maskBeta',
  'maxGram',
  'spanMode',
  'biData',
];

/** `train --model xlnet`: permutation language modelling on a text with a sentence on each line. */
export async function trainPermutation(source: string, flags: TrainFlags): Promise<void> {
  const file = readConfigFile(flags.config, dataNames);
  const text = await readText(source);
  const { train, valid } = flags.valid
    ? { train: text, valid: await readText(flags.valid) }
    : splitSentences(text, 0.05);
  const start = await xlnetStart(flags, () => [train]);
  const options: PermutationOptions = { ...file.data, ...sampleOptions(flags) };
  // The end of a short text has room for few streams; with biData there is one in each direction.
  const defaults = { ...xlnetRecipe, evaluation: { batchSize: options.biData === true ? 2 : 1 } };
  const config = trainOptions(defaults, file.train, flags);
  const { seed, memoryLength } = resolveTrainConfig(config);
  const modelOptions = xlnetOptions(file.model, flags, start, { memLen: memoryLength });
  const model = await makeModel(modelOptions, start.init, { seed, device: flags.device });
  try {
    await runTraining(
      {
        task: permutationTask(model, {
          train,
          valid: valid ?? undefined,
          tokenizer: start.tokenizer,
          options,
        }),
        config,
        modelFiles: start.tokenizerFiles,
        lossFigure: (loss) => ['ppl', Math.exp(loss).toFixed(1)],
        describe: ({ loss, perplexity }) => `loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(2)}`,
      },
      flags,
    );
  } finally {
    model.dispose();
  }
}

async function makeModel(
  options: XLNetOptions,
  init: string | null,
  modelOptions: { seed: number; device: string },
): Promise<XLNetLMHeadModel> {
  return init === null
    ? new XLNetLMHeadModel(options, modelOptions)
    : XLNetLMHeadModel.fromPretrained(init, { ...modelOptions, config: options });
}

function sampleOptions(flags: TrainFlags): PermutationOptions {
  return defined({
    reuseLen: flags.reuseLen,
    permSize: flags.permSize,
    numPredict: flags.numPredict,
    maskAlpha: flags.alpha,
    maskBeta: flags.beta,
    maxGram: flags.maxSpan,
    spanMode: flags.spanMode as PermutationOptions['spanMode'],
    biData: flags.biData,
  });
}
