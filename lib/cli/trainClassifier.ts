import { labelNames, readLabelledText, splitExamples } from '../data/labelledText';
import { XlformersError } from '../errors';
import { applyRules, numberRule, type Rule, type Rules } from '../options';
import { XLNetForSequenceClassification } from '../models/xlnetHeads';
import { classificationTask } from '../train/classificationTask';
import { type ClassificationEvaluation, evaluateClassifier } from '../train/evaluateClassifier';
import { resolveTrainConfig, type TrainOptions } from '../train/trainConfig';
import { runTraining } from './runTraining';
import { type TrainFlags, defined, readConfigFile, trainOptions } from './trainFlags';
import { xlnetOptions, xlnetRecipe, xlnetStart } from './xlnetSetup';

interface DataOptions {
  textColumn: string;
  labelColumn: string;
  validFraction: number;
}

const nameRule = (fallback: string): Rule => ({
  fallback,
  accepts: (value) => typeof value === 'string' && value !== '',
  expected: 'the name of a column',
});
const dataRules: Rules<DataOptions> = {
  textColumn: nameRule('text'),
  labelColumn: nameRule('label'),
  validFraction: numberRule(0.1, 0, 0.9),
};

/** `train --task classify`: an XLNet that tells labelled texts apart. */
export async function trainClassifier(source: string, flags: TrainFlags): Promise<void> {
  const file = readConfigFile(flags.config, Object.keys(dataRules));
  const data = applyRules<DataOptions>('data', dataRules, {
    ...file.data,
    ...defined({
      textColumn: flags.textColumn,
      labelColumn: flags.labelColumn,
      validFraction: flags.validFraction,
    }),
  });
  const examples = await readLabelledText(source, data);
  const splitSeed = flags.seed ?? file.train.seed ?? 1;
  const { train, valid } = flags.valid
    ? { train: examples, valid: await readLabelledText(flags.valid, data) }
    : splitExamples(examples, data.validFraction, splitSeed);
  if (valid.length === 0 && data.validFraction > 0) {
    process.stderr.write(
      `nothing is held out: ${examples.length} examples have no share of ${data.validFraction} to set apart (equal texts stay together); ` +
        'give --valid or a larger --valid-fraction\n',
    );
  }
  const test = flags.test === undefined ? null : await readLabelledText(flags.test, data);
  const start = await xlnetStart(flags, () => train.flatMap(({ text }) => text.split('\n')));
  const config = classifierConfig(train.length, file.train, flags);
  const { seed, targetLength, evaluation } = resolveTrainConfig(config);
  const options = xlnetOptions(file.model, flags, start, {
    labelNames: labelNames(train),
    problemType: 'single_label_classification',
  });
  const modelOptions = { seed, device: flags.device };
  const { tokenizer, init } = start;
  const model =
    init === null
      ? new XLNetForSequenceClassification(options, modelOptions)
      : await XLNetForSequenceClassification.fromPretrained(init, { ...modelOptions, config: options });
  try {
    await runTraining(
      {
        task: classificationTask(model, { train, valid: valid.length > 0 ? valid : undefined, tokenizer }),
        config,
        modelFiles: start.tokenizerFiles,
        describe: describeEvaluation,
        conclude: async ({ bestEvaluation }, signal) => {
          const tested =
            test &&
            (await evaluateClassifier(model, test, {
              ...{ tokenizer, maxLength: targetLength, batchSize: evaluation.batchSize, signal },
            }));
          return {
            lines: [...table('held-out', bestEvaluation), ...table('test', tested)],
            json: test ? { test: tested } : {},
          };
        },
      },
      flags,
    );
  } finally {
    model.dispose();
  }
}

/** Three epochs with an evaluation after each, unless the file or the flags say otherwise. */
function classifierConfig(examples: number, file: TrainOptions, flags: TrainFlags): TrainOptions {
  if (flags.epochs !== undefined && flags.steps !== undefined) {
    throw new XlformersError('ERR_CONFIG', '--epochs, --steps: expected one of the two');
  }
  const batchSize = flags.batchSize ?? file.batchSize ?? 16;
  const perEpoch = Math.max(1, Math.ceil(examples / batchSize));
  const inEpochs = Math.ceil((flags.epochs ?? 3) * perEpoch);
  const steps = flags.steps ?? (flags.epochs === undefined ? file.steps : undefined) ?? inEpochs;
  const defaults: TrainOptions = {
    ...xlnetRecipe,
    batchSize,
    // A trained model is changed gently.
    learningRate: flags.init === undefined ? 5e-4 : 3e-5,
    warmupSteps: Math.ceil(steps / 10),
    evaluation: { interval: perEpoch },
    checkpoint: { interval: perEpoch },
  };
  return { ...trainOptions(defaults, file, flags), steps };
}

function describeEvaluation({ loss, accuracy, f1 }: ClassificationEvaluation): string {
  return `loss ${loss.toFixed(4)}, accuracy ${percent(accuracy)}, F1 ${percent(f1)}`;
}

/** Figures by class. */
function table(name: string, evaluation: ClassificationEvaluation | null): string[] {
  if (evaluation === null) return [];
  const { count, accuracy, macro, perClass, labels } = evaluation;
  const width = Math.max(...labels.map((label) => label.length));
  return [
    `${name}: ${count} examples, accuracy ${percent(accuracy)}, macro F1 ${percent(macro.f1)}`,
    ...perClass.map(({ precision, recall, f1, support }, index) => {
      const scores = `precision ${percent(precision)}, recall ${percent(recall)}, F1 ${percent(f1)}`;
      return `  ${(labels[index] as string).padEnd(width)}  ${scores}, of ${support}`;
    }),
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
