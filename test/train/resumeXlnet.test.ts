/** XLNet's pretraining: memories of both directions, spans and factorization orders go on where they stopped. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { repository } from '../support/cli';
import { fixturePath } from '../support/fixtures';
import { changedTokenizer, testResume } from '../support/resume';

const steps = 24;
const tokenizer = fixturePath('tokenizers', 'xlnet-small');
const { scratch, refused } = testResume({
  steps,
  points: ['mid_file', 'before_rename', 'prune'],
  prepare(directory) {
    const text = path.join(directory, 'text.txt');
    const valid = path.join(directory, 'valid.txt');
    const source = readFileSync(path.join(repository, 'docs', 'architecture.md'), 'utf8');
    // Two streams of about 10 samples each: the run passes the end of the text and begins again.
    writeFileSync(text, source.slice(0, 500));
    writeFileSync(valid, source.slice(500, 900));
    const flags =
      `--model xlnet --tokenizer ${tokenizer} --valid ${valid} --steps ${steps} --layers 2 --d-model 32 --d-inner 64 --heads 2 ` +
      '--batch-size 4 --accumulation 2 --bi-data --target-length 16 --memory-length 12 --num-predict 5 --dropout 0.2 ' +
      '--learning-rate 0.003 --warmup-steps 3 --eval-interval 5 --eval-max-batches 3 --checkpoint-interval 3 --seed 3';
    return [text, ...flags.split(' ')];
  },
});

test('the run reads its text more than once', () => {
  const { epoch } = lastState();
  expect(epoch).toBeGreaterThan(0);
});

function lastState(): { epoch: number; data: Record<string, unknown> } {
  const folder = path.join(scratch, 'reference', `checkpoint-${String(steps).padStart(6, '0')}`);
  return (JSON.parse(readFileSync(path.join(folder, 'state.json'), 'utf8')) as { state: ReturnType<typeof lastState> })
    .state;
}

test('another text, held-out text, tokenizer or way of drawing samples is refused, naming what differs', async () => {
  const text = path.join(scratch, 'text.txt');
  const changed = path.join(scratch, 'changed.txt');
  writeFileSync(changed, readFileSync(text, 'utf8').replace('a', 'o'));
  expect(await refused([], { [text]: changed })).toContain('data.text: the checkpoint has');
  expect(await refused(['--valid', changed])).toContain('data.heldOutText: the checkpoint has');
  expect(await refused(['--num-predict', '4'])).toContain('data.numPredict: the checkpoint has 5, this run 4');
  expect(await refused(['--span-mode', 'upstream'])).toContain('data.spanMode: the checkpoint has "fixed"');

  // Less likely than any other way to write the word: the vocabulary is the same, the tokens are not.
  const other = changedTokenizer(tokenizer, path.join(scratch, 'tokenizer'), (vocabulary) => {
    vocabulary.find(([piece]) => piece === '▁the')![1] = -100;
  });
  expect(await refused(['--tokenizer', other])).toContain('data.tokenizer: the checkpoint has');
});
