/** `train` for XLNet and classification: what it leaves, what it reports, what it refuses. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { AutoModel, XLNetForSequenceClassification, XLNetLMHeadModel, XLNetTokenizer } from '../../lib';
import { runCli, runMain } from '../support/cli';
import { fixturePath, readJson } from '../support/fixtures';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-train-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const tokenizer = fixturePath('tokenizers', 'xlnet-small');
const tiny = '--layers 1 --d-model 16 --d-inner 16 --heads 2 --device cpu --seed 5'.split(' ');
const inScratch = (name: string) => path.join(scratch, name);
const written = (name: string, content: string) => {
  writeFileSync(inScratch(name), content);
  return inScratch(name);
};

const sentences = written(
  'sentences.txt',
  `${['The captain saw the whale.', 'The whale saw the ship.', '', 'The ship went into the sea.'].join('\n')}\n`.repeat(
    40,
  ),
);
const review = (index: number) =>
  ['good,"a fine, old ship"', 'bad,"a poor, old house"', 'mixed,"a street, no more"'][index % 3]!;
const reviews = written(
  'reviews.csv',
  `stars,review\n${Array.from({ length: 60 }, (_, index) => `${review(index).slice(0, -1)} of ${index}"\n`).join('')}`,
);
const columns = ['--text-column', 'review', '--label-column', 'stars'];
const pretrained = inScratch('xlnet');
const classifier = inScratch('classifier');

/** The JSON that a command prints. */
async function json(args: string[], env?: Record<string, string>): Promise<Record<string, never>> {
  const { code, stdout, stderr } = await runCli([...args, '--json'], env);
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Record<string, never>;
}

beforeAll(async () => {
  const pretraining =
    '--model xlnet --steps 4 --target-length 24 --memory-length 12 --bi-data --num-predict 5 --alpha 4 --beta 2 --max-span 2';
  const result = await json([
    ...['train', sentences, '--tokenizer', tokenizer, '--out', pretrained, ...tiny, ...pretraining.split(' ')],
    ...['--reuse-len', '12', '--perm-size', '6', '--span-mode', 'upstream', '--eval-max-batches', '2'],
  ]);
  expect(result).toMatchObject({ outcome: 'finished', step: 4, directory: pretrained });
  expect(result.evaluation).toMatchObject({
    loss: expect.any(Number) as number,
    perplexity: expect.any(Number) as number,
  });
});

test("XLNet's pretraining leaves a folder with its tokenizer, for models of every kind", async () => {
  const folder = path.join(pretrained, 'model');
  expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors', 'spiece.model', 'tokenizer.json']);
  const model = (await AutoModel.fromPretrained(folder, { device: 'cpu' })) as XLNetLMHeadModel;
  expect(model).toBeInstanceOf(XLNetLMHeadModel);
  expect(model.config).toMatchObject({ vocabSize: 2000, nLayer: 1, memLen: 12, biData: false, padTokenId: 5 });
  const words = await XLNetTokenizer.fromFolder(folder);
  expect(words.vocabSize).toBe(2000);
  model.dispose();
  const { data } = readJson<{ state: { data: object } }>(pretrained, 'checkpoint-000004', 'state.json').state;
  const options = { permSize: 6, reuseLen: 12, numPredict: 5, maskAlpha: 4, maskBeta: 2, maxGram: 2 };
  expect(data).toMatchObject({ ...options, spanMode: 'upstream', biData: true, seqLen: 24, sepId: 4, clsId: 3 });
  expect(readFileSync(path.join(pretrained, 'loss.svg'), 'utf8')).toContain('nats per predicted token');
});

test('--init goes on from a model, with its tokenizer and size', async () => {
  const out = inScratch('more');
  const init = ['--init', path.join(pretrained, 'model')];
  const result = await runCli(
    `train ${sentences} --model xlnet --out ${out} --steps 1 --target-length 24 --dropout 0.3`.split(' ').concat(init),
  );
  expect(result.stdout).toMatch(/^Done at step 1, best held-out loss/);
  expect(result.stderr).toMatch(/step 1: held-out loss \d+\.\d+, perplexity \d/);
  expect(readJson(out, 'model', 'config.json')).toMatchObject({ d_model: 16, n_layer: 1, dropout: 0.3 });
  const sized = await runMain(['train', sentences, '--model', 'xlnet', '--out', out, ...init, '--layers', '2']);
  expect([sized.code, sized.stderr]).toEqual([1, expect.stringContaining('--init: its config.json says the size')]);
});

test('a classifier from a pretrained model: labels in its config, figures by class, a test set', async () => {
  const result = await json([
    ...[
      'train',
      reviews,
      '--task',
      'classify',
      '--init',
      path.join(pretrained, 'model'),
      '--out',
      classifier,
      ...columns,
    ],
    ...['--test', reviews, '--epochs', '2', '--batch-size', '8', '--target-length', '12', '--learning-rate', '0.01'],
  ]);
  // 54 examples are left: seven steps an epoch.
  expect(result).toMatchObject({ outcome: 'finished', step: 14 });
  expect(result.bestEvaluation).toMatchObject({ count: 6, labels: ['bad', 'good', 'mixed'] });
  expect(result.test).toMatchObject({
    count: 60,
    accuracy: expect.any(Number) as number,
    macro: {},
    perClass: [{}, {}, {}],
  });
  const folder = path.join(classifier, 'model');
  expect(readJson(folder, 'config.json')).toMatchObject({
    architectures: ['XLNetForSequenceClassification'],
    id2label: { 0: 'bad', 1: 'good', 2: 'mixed' },
    label2id: { bad: 0, good: 1, mixed: 2 },
    problem_type: 'single_label_classification',
  });
  const model = (await AutoModel.fromPretrained(folder, { device: 'cpu' })) as XLNetForSequenceClassification;
  expect(model.config.labelNames).toEqual(['bad', 'good', 'mixed']);
  expect((await XLNetTokenizer.fromFolder(folder)).vocabSize).toBe(2000);
  model.dispose();
  const log = readFileSync(path.join(classifier, 'log.jsonl'), 'utf8').trim().split('\n');
  const last = JSON.parse(log.at(-1)!) as object;
  expect(last).toMatchObject({
    event: 'evaluation',
    step: 14,
    accuracy: expect.any(Number) as number,
    perClass: [{}, {}, {}],
  });
});

test('a classifier from scratch, by a configuration file, with its report as text', async () => {
  const config = written(
    'config.json',
    JSON.stringify({
      model: { nLayer: 1, dModel: 16, nHead: 2, dInner: 16 },
      train: { steps: 2, batchSize: 4, targetLength: 12 },
      data: { textColumn: 'review', labelColumn: 'stars', validFraction: 0.2 },
    }),
  );
  const args = ['train', reviews, '--task', 'classify', '--config', config, '--tokenizer', tokenizer];
  const { stdout, stderr } = await runCli([...args, '--out', inScratch('scratch-classifier')]);
  expect(stdout).toMatch(/^Done at step 2, best held-out loss .*\nheld-out: 12 examples, accuracy [\d.]+ %, macro F1/);
  expect(stdout).toMatch(/\n {2}good {3}precision [\d.]+ %, recall [\d.]+ %, F1 [\d.]+ %, of 4\n/);
  expect(stderr).toMatch(/step 2: held-out loss [\d.]+, accuracy [\d.]+ %, F1 [\d.]+ %/);
});

test('where nothing can be held out, the run says so', async () => {
  const few = written('few.jsonl', '{"text":"a","label":"x"}\n{"text":"b","label":"y"}\n');
  const args = [
    'train',
    few,
    '--task',
    'classify',
    '--tokenizer',
    tokenizer,
    '--out',
    inScratch('few'),
    '--steps',
    '1',
  ];
  const { code, stdout, stderr } = await runMain([...args, ...tiny]);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^Done at step 1\. Model/)]);
  expect(stderr).toContain('nothing is held out: 2 examples have no share of 0.1');
});

describe('--train-tokenizer', () => {
  const args = ['train', sentences, '--model', 'xlnet', '--train-tokenizer', '300', '--target-length', '24', ...tiny];

  test("without SentencePiece's trainer: what is missing and where it is to be had", async () => {
    const out = inScratch('untrained');
    // A path that leads to the shell alone, wherever the trainer may be.
    const shell = inScratch('shell');
    mkdirSync(shell);
    symlinkSync(execFileSync('bash', ['-c', 'type -P bash'], { encoding: 'utf8' }).trim(), path.join(shell, 'bash'));
    const { code, stderr } = await runCli([...args, '--out', out], { PATH: shell });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /'spm_train' is not installed: SentencePiece's trainer learns the vocabulary.*ERR_UNSUPPORTED/,
    );
  });

  test('with it: learnt once, kept for the resume, and part of the model', async () => {
    const bin = inScratch('bin');
    cpSync(tokenizer, bin, { recursive: true });
    // A trainer that hands over a ready vocabulary, and says what it was asked for.
    const program = path.join(bin, 'spm_train');
    writeFileSync(
      program,
      `#!/bin/sh
for option in "$@"; do
  case "$option" in
    --model_prefix=*) cp ${path.join(bin, 'spiece.model')} "\${option#*=}.model" ;;
    --input=*) cp "\${option#*=}" ${inScratch('learnt-from.txt')} ;;
  esac
done
echo "$@" >> ${inScratch('asked.txt')}
`,
    );
    chmodSync(program, 0o755);
    const env = { PATH: `${bin}:${process.env.PATH}` };
    const out = inScratch('trained');
    await json([...args, '--steps', '1', '--out', out], env);
    const again = await runCli([...args, '--steps', '1', '--out', out, '--resume'], env);
    expect([again.code, again.code === 0 ? '' : again.stderr]).toEqual([0, '']);
    const asked = readFileSync(inScratch('asked.txt'), 'utf8').trim().split('\n');
    expect(asked).toHaveLength(1);
    expect(asked[0]).toContain('--vocab_size=300');
    // What is held out is not learnt from.
    const learntFrom = readFileSync(inScratch('learnt-from.txt'), 'utf8');
    expect(learntFrom.length).toBeLessThan(readFileSync(sentences, 'utf8').length);
    expect(readFileSync(sentences, 'utf8').startsWith(learntFrom)).toBe(true);
    expect(readdirSync(path.join(out, 'model'))).toContain('spiece.model');
  });
});

test('--help groups the flags and has an example for each job', async () => {
  const { stdout } = await runMain(['train', '--help']);
  for (const heading of [
    'What to train:',
    'Transformer-XL:',
    "XLNet's pretraining (--model xlnet):",
    'Classification',
  ]) {
    expect(stdout).toContain(heading);
  }
  for (const example of [
    /train book\.txt/,
    /--model xlnet --train-tokenizer/,
    /--model xlnet --init/,
    /--task classify/,
  ]) {
    expect(stdout).toMatch(example);
  }
});

const job = {
  lm: ['train', sentences, '--out', inScratch('none')],
  xlnet: ['train', sentences, '--model', 'xlnet', '--tokenizer', tokenizer, '--out', inScratch('none'), ...tiny],
  classify: (file: string) => [
    'train',
    file,
    '--task',
    'classify',
    '--tokenizer',
    tokenizer,
    '--out',
    inScratch('none'),
    ...tiny,
  ],
};

test.each<[string, string[], number, RegExp]>([
  [
    'pretraining flag with classify',
    [...job.classify(reviews), '--num-predict', '5'],
    2,
    /'--num-predict <n>' does not go with --task classify; it is for: XLNet's pretraining/,
  ],
  [
    'memory with classify',
    [...job.classify(reviews), '--memory-length', '5'],
    2,
    /'--memory-length <n>' does not go with --task classify/,
  ],
  [
    'tokenizer with Transformer-XL',
    [...job.lm, '--tokenizer', tokenizer],
    2,
    /'--tokenizer <folder or hub id>' does not go with --model transformer-xl/,
  ],
  [
    'column with XLNet',
    [...job.xlnet, '--text-column', 'a'],
    2,
    /'--text-column <name>' does not go with --model xlnet/,
  ],
  [
    'evaluation length with XLNet',
    [...job.xlnet, '--eval-target-length', '8'],
    2,
    /'--eval-target-length <n>' does not go/,
  ],
  [
    'Transformer-XL as a classifier',
    [...job.classify(reviews), '--model', 'transformer-xl'],
    2,
    /does not go with --task classify, which trains an XLNet/,
  ],
  ['unknown model', [...job.lm, '--model', 'bert'], 2, /Allowed choices are transformer-xl, xlnet/],
  ['unknown task', [...job.lm, '--task', 'translate'], 2, /Allowed choices are language-model, classify/],
  ['unknown mode', [...job.xlnet, '--span-mode', 'whole'], 2, /Allowed choices are fixed, upstream/],
  [
    'no tokenizer',
    ['train', sentences, '--model', 'xlnet', '--out', inScratch('none')],
    1,
    /XLNet needs a tokenizer: --tokenizer/,
  ],
  [
    'two tokenizers',
    [...job.xlnet, '--train-tokenizer', '100'],
    1,
    /--tokenizer, --train-tokenizer: expected one of the two/,
  ],
  [
    'no such tokenizer',
    ['train', sentences, '--model', 'xlnet', '--out', inScratch('none'), '--tokenizer', './none'],
    1,
    /'\.\/none' is neither a folder nor a hub id/,
  ],
  [
    'steps and epochs',
    [...job.classify(reviews), ...columns, '--steps', '1', '--epochs', '1'],
    1,
    /--epochs, --steps: expected one of the two/,
  ],
  ['no such file', job.classify('/no/such.csv'), 1, /\/no\/such\.csv: there is no such file.*ERR_FILE_NOT_FOUND/],
  ['no data format', job.classify(sentences), 1, /a name that ends in \.jsonl, \.ndjson or \.csv/],
  [
    'unknown column',
    job.classify(reviews),
    1,
    /reviews\.csv: line 1 \(the header\) names no column 'text'; it has stars, review/,
  ],
  ['empty file', job.classify(written('empty.jsonl', '')), 1, /empty\.jsonl: holds no examples/],
  [
    'malformed line',
    job.classify(written('bad.jsonl', '{"text":"a","label":"x"}\n{"text":\n')),
    1,
    /bad\.jsonl: line 2 is no JSON/,
  ],
  [
    'label missing',
    job.classify(written('half.jsonl', '{"text":"a","label":"x"}\n{"text":"b"}\n')),
    1,
    /half\.jsonl: line 2 has no field 'label'; it has text/,
  ],
  [
    'one class',
    job.classify(written('one.jsonl', '{"text":"a","label":"x"}\n'.repeat(3))),
    1,
    /config\.labelNames: got x alone, expected two classes or more/,
  ],
  [
    'unknown held-out label',
    [
      ...job.classify(written('two.jsonl', '{"text":"a","label":"x"}\n{"text":"b","label":"y"}\n')),
      '--valid',
      written('three.jsonl', '{"text":"a","label":"z"}\n'),
    ],
    1,
    /valid\[0\]: got label 'z', expected one of x, y/,
  ],
  [
    'empty text',
    ['train', written('empty.txt', ''), ...job.xlnet.slice(2)],
    1,
    /training text: got 0 tokens, expected at least/,
  ],
  [
    'short text',
    ['train', written('short.txt', 'One line.\nTwo lines.\n'), ...job.xlnet.slice(2)],
    1,
    /training text: got \d+ tokens, expected at least 1024 for 8 streams of samples of 128/,
  ],
  [
    'no held-out text',
    ['train', written('latin.txt', ''), ...job.xlnet.slice(2), '--valid', '/no/such'],
    1,
    /\/no\/such: there is no such file/,
  ],
  [
    'unknown part of the file',
    [...job.lm, '--config', written('part.json', '{"data":{}}')],
    1,
    /unknown key 'data', expected 'model', 'train'/,
  ],
  [
    'unknown data option',
    [...job.xlnet, '--config', written('data.json', '{"data":{"permsize":3}}')],
    1,
    /data\.permsize: unknown option; did you mean 'permSize'\?/,
  ],
  [
    'part that is no object',
    [...job.xlnet, '--config', written('list.json', '{"model":[]}')],
    1,
    /list\.json: 'model' is no object/,
  ],
  [
    'column of no name',
    [...job.classify(reviews), '--config', written('name.json', '{"data":{"textColumn":3}}')],
    1,
    /data\.textColumn: got 3, expected the name of a column/,
  ],
])('%s fails and says why', async (_, args, code, message) => {
  const result = await runMain(args);
  expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(message)]);
});
