/** Classification: the order of examples, smaller last batches, best weights and early stopping's count go on where they stopped. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fixturePath } from '../support/fixtures';
import { TestRandom } from '../support/random';
import { changedTokenizer, testResume } from '../support/resume';

const steps = 24;
const tokenizer = fixturePath('tokenizers', 'xlnet-small');
const words = { sea: ['whale', 'ship', 'sea', 'captain'], land: ['house', 'street', 'man', 'woman'] };

function examples(count: number, seed: number): { text: string; label: string }[] {
  const random = new TestRandom(seed);
  return Array.from({ length: count }, () => {
    const label = random.pick(['sea', 'land'] as const);
    const text = Array.from({ length: random.integer(1, 9) }, () => random.pick(['the', 'of', ...words[label]]));
    return { text: text.join(' '), label };
  });
}

const lines = (list: object[]) => list.map((example) => `${JSON.stringify(example)}\n`).join('');

const { scratch, refused } = testResume({
  steps,
  points: ['mid_file', 'before_rename', 'prune'],
  prepare(directory) {
    const train = path.join(directory, 'train.jsonl');
    const valid = path.join(directory, 'valid.jsonl');
    // Epochs of five batches, the last with three examples.
    writeFileSync(train, lines(examples(19, 1)));
    writeFileSync(valid, lines(examples(10, 2)));
    const flags =
      `--task classify --tokenizer ${tokenizer} --valid ${valid} --steps ${steps} --layers 2 --d-model 32 --d-inner 64 --heads 2 ` +
      '--batch-size 4 --accumulation 2 --target-length 16 --dropout 0.2 --learning-rate 0.01 --warmup-steps 3 --layer-decay 0.8 ' +
      '--eval-interval 4 --checkpoint-interval 3 --seed 3';
    return [train, ...flags.split(' ')];
  },
});

test('other examples, labels or another tokenizer are refused, naming what differs', async () => {
  const train = path.join(scratch, 'train.jsonl');
  const changed = path.join(scratch, 'changed.jsonl');
  writeFileSync(changed, readFileSync(train, 'utf8').replace('the', 'of'));
  expect(await refused([], { [train]: changed })).toContain('data.examples: the checkpoint has');
  expect(await refused(['--valid', train])).toContain('data.heldOutExamples: the checkpoint has');

  const relabelled = path.join(scratch, 'relabelled.jsonl');
  writeFileSync(relabelled, readFileSync(train, 'utf8').replaceAll('"land"', '"shore"'));
  const valid = path.join(scratch, 'relabelled-valid.jsonl');
  writeFileSync(valid, readFileSync(path.join(scratch, 'valid.jsonl'), 'utf8').replaceAll('"land"', '"shore"'));
  expect(await refused(['--valid', valid], { [train]: relabelled })).toContain(
    'data.labels: the checkpoint has ["land","sea"], this run ["sea","shore"]',
  );

  // A piece that the examples do not have: nothing that is learnt changes, but what the model says of other texts would.
  const other = changedTokenizer(tokenizer, path.join(scratch, 'tokenizer'), (vocabulary) => {
    vocabulary.at(-1)![0] += 'x';
  });
  expect(await refused(['--tokenizer', other])).toContain('data.tokenizer: the checkpoint has');
});
