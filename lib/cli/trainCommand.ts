import type { Command } from 'commander';
import { exitCodes } from './common';
import { type Job, type TrainFlags, addTrainFlags, jobOf } from './trainFlags';
import { trainClassifier } from './trainClassifier';
import { trainLanguageModel } from './trainLanguageModel';
import { trainPermutation } from './trainPermutation';

const jobs: Record<Job, (data: string, flags: TrainFlags) => Promise<void>> = {
  'transformer-xl': trainLanguageModel,
  xlnet: trainPermutation,
  classify: trainClassifier,
};

export function addTrainCommand(program: Command): void {
  const command = program
    .command('train')
    .description('train a Transformer-XL or an XLNet on a text, or an XLNet classifier on labelled texts')
    .argument(
      '<data>',
      'any file for a Transformer-XL; for an XLNet text with a sentence on each line and blank lines between documents; to classify, ' +
        '.jsonl or .csv. The last 5 % (of labelled texts, 10 % of each label) are held out unless --valid names a file',
    );
  addTrainFlags(command);
  command
    .addHelpText(
      'after',
      `
Ctrl-C or SIGTERM saves and exits with code ${exitCodes.interrupted}; the same command with --resume goes on, with the losses of an
uninterrupted run.

Examples:
  A language model on the bytes of a book:
    xlformers train book.txt --out runs/book --steps 500 --eval-interval 100
  An XLNet from scratch, with a vocabulary of its own (needs SentencePiece's spm_train):
    xlformers train sentences.txt --model xlnet --train-tokenizer 8000 --out runs/xlnet --steps 2000
  More pretraining of a published model on your text:
    xlformers train sentences.txt --model xlnet --init xlnet/xlnet-base-cased --out runs/domain --learning-rate 2e-5
  A classifier from a published model, and one from scratch:
    xlformers train reviews.csv --task classify --init xlnet/xlnet-base-cased --out runs/reviews --layer-decay 0.75
    xlformers train mail.jsonl --task classify --tokenizer runs/xlnet/model --out runs/mail --epochs 4`,
    )
    .action((data: string) => jobs[jobOf(command)](data, command.opts<TrainFlags>()));
}
