import { readBytes, splitCorpus } from '../data/corpus';
import type { TransformerXLOptions } from '../models/transformerXLConfig';
import { TransformerXLLMHeadModel } from '../models/transformerXLHeads';
import { languageModelTask } from '../train/languageModelTask';
import { resolveTrainConfig } from '../train/trainConfig';
import { runTraining } from './runTraining';
import { type TrainFlags, defined, readConfigFile, trainOptions } from './trainFlags';
import { bitsPerCharacter } from './trainingProgress';

/** A small model that learns something in minutes; every value can be set by the config file or a flag. */
const defaultModel: TransformerXLOptions = {
  nLayer: 4,
  dModel: 256,
  nHead: 4,
  dInner: 1024,
  dropout: 0.1,
};

/** `train`: a Transformer-XL on the bytes of a text. */
export async function trainLanguageModel(text: string, flags: TrainFlags): Promise<void> {
  const file = readConfigFile(flags.config, []);
  const config = trainOptions({}, file.train, flags);
  const { memoryLength, seed } = resolveTrainConfig(config);
  const bytes = await readBytes(text);
  const parts = flags.valid
    ? { train: bytes, valid: await readBytes(flags.valid) }
    : splitCorpus(bytes, { valid: 0.05, test: 0 });
  const model = new TransformerXLLMHeadModel(modelOptions(file.model, flags, memoryLength), {
    seed,
    device: flags.device,
  });
  try {
    await runTraining(
      {
        task: languageModelTask(model, parts),
        config,
        lossFigure: bitsPerCharacter,
        describe: ({ loss, bitsPerCharacter: bits }) =>
          `loss ${loss.toFixed(4)}, ${bits.toFixed(4)} bits per character`,
      },
      flags,
    );
  } finally {
    model.dispose();
  }
}

function modelOptions(file: TransformerXLOptions, flags: TrainFlags, memoryLength: number): TransformerXLOptions {
  const shape = {
    ...defaultModel,
    ...file,
    ...defined({
      nLayer: flags.layers,
      dModel: flags.dModel,
      nHead: flags.heads,
      dInner: flags.dInner,
      dropout: flags.dropout,
    }),
  };
  const { dModel = 256, nHead = 4 } = shape;
  return {
    vocabSize: 256,
    cutoffs: [],
    divVal: 1,
    tieProjs: [false],
    clampLen: -1,
    sameLength: false,
    memLen: memoryLength,
    ...shape,
    dEmbed: shape.dEmbed ?? dModel,
    dHead: shape.dHead ?? Math.max(1, Math.floor(dModel / nHead)),
  };
}
