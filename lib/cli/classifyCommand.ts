import type { Command } from 'commander';
import { type ClassifiedText, classifyTexts, classNames } from '../inference/classifyTexts';
import { TransformerXLForSequenceClassification } from '../models/transformerXLHeads';
import { XLNetForSequenceClassification } from '../models/xlnetHeads';
import { percent } from './fillCommand';
import {
  addTextOptions,
  jsonLinesOption,
  type LocalModel,
  localModel,
  modelArgument,
  readTexts,
  requireHead,
  shortFloat,
  type TextFlags,
  textsArgument,
  untilInterrupted,
  withProgress,
} from './modelArguments';
import { AutoTokenizer } from '../tokenizers/autoTokenizer';

export function addClassifyCommand(program: Command): void {
  const command = program
    .command('classify')
    .description('classes of texts and their probabilities, by a fine-tuned classifier')
    .argument('<model>', modelArgument)
    .argument('[texts...]', textsArgument);
  addTextOptions(command)
    .addOption(jsonLinesOption())
    .addHelpText(
      'after',
      `
The names of the classes are those of config.json (id2label). Its problem_type says whether one class is chosen, any number (those
with a probability of at least 50 %), or a value is estimated.

Examples:
  xlformers classify runs/spam/model "You have won a prize!" "See you at noon."
  xlformers classify runs/spam/model --file mails.txt --batch-size 16 --json`,
    )
    .action(run);
}

function run(name: string, given: string[], flags: TextFlags): Promise<void> {
  return untilInterrupted(async (signal) => {
    const texts = await readTexts(given, flags.file);
    const local = await localModel(name, flags, signal);
    await requireHead(local, {
      command: 'classify',
      architectures: ['XLNetForSequenceClassification', 'TransfoXLForSequenceClassification'],
      weight: /^(logits_proj|score)\.weight$/,
      advice: "'train --task classify' makes one from labelled texts",
    });
    const tokenizer = await AutoTokenizer.fromPretrained(local.directory);
    const model = await loadClassifier(local);
    try {
      const labels = classNames(local.config, model.config.numLabels);
      const { batchSize, json } = flags;
      const results = withProgress(
        classifyTexts(model, tokenizer, texts, { labels, batchSize, signal }),
        texts.length,
        'classifying',
        !process.stdout.isTTY && texts.length > batchSize,
      );
      for await (const result of results) process.stdout.write(json ? asJson(result) : asText(result));
    } finally {
      model.dispose();
    }
  });
}

function loadClassifier({
  directory,
  config,
  options,
}: LocalModel): Promise<XLNetForSequenceClassification | TransformerXLForSequenceClassification> {
  return config.model_type === 'xlnet'
    ? XLNetForSequenceClassification.fromPretrained(directory, options)
    : TransformerXLForSequenceClassification.fromPretrained(directory, options);
}

/** The label where one is chosen, the labels where there may be several, the value of a regression. */
function asJson({ text, problemType, labels, scores }: ClassifiedText): string {
  const pairs = scores.map(({ label, score }) => ({ label, score: shortFloat(Math.fround(score)) }));
  const found =
    problemType === 'single_label_classification'
      ? { label: labels[0] }
      : problemType === 'multi_label_classification'
        ? { labels }
        : pairs.length === 1
          ? { value: pairs[0]?.score }
          : {};
  return `${JSON.stringify({ text, ...found, scores: pairs })}\n`;
}

function asText({ text, problemType, labels, scores }: ClassifiedText): string {
  const shown = JSON.stringify(text.length > 60 ? `${text.slice(0, 59)}…` : text);
  if (problemType === 'regression') {
    const values = scores.map(({ label, score }) =>
      scores.length === 1 ? String(shortFloat(score)) : `${label} ${shortFloat(score)}`,
    );
    return `${values.join(', ')}  ${shown}\n`;
  }
  const chosen = labels.length > 0 ? labels.join(', ') : 'none';
  const all = [...scores]
    .sort((a, b) => b.score - a.score)
    .map(({ label, score }) => `${label} ${percent(score).trim()}`);
  return `${chosen}  ${shown}  (${all.join(', ')})\n`;
}
