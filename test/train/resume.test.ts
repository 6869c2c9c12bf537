import { cpSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { repository, runCli } from '../support/cli';
import { TestRandom } from '../support/random';
import { outcome, testResume } from '../support/resume';

const steps = 24;
const { scratch, args, reference, finish } = testResume({
  steps,
  points: ['after_tmp', 'mid_file', 'before_state', 'before_rename', 'after_rename', 'before_latest', 'prune'],
  prepare(directory) {
    const text = path.join(directory, 'text.txt');
    // Small enough that the run passes the end of the text and begins again.
    writeFileSync(text, readFileSync(path.join(repository, 'lib', 'tensor.ts')).subarray(0, 1200));
    const flags =
      `--steps ${steps} --layers 2 --d-model 32 --d-inner 64 --heads 2 --batch-size 4 --target-length 16 --memory-length 16 ` +
      '--accumulation 2 --dropout 0.2 --learning-rate 0.003 --warmup-steps 3 --eval-interval 5 --eval-max-batches 2 --checkpoint-interval 3 --seed 3';
    return [text, ...flags.split(' ')];
  },
});

test('a disk that fills up while saving leaves the older checkpoint, from which the run goes on', async () => {
  const out = path.join(scratch, 'full');
  const { signal } = await runCli(args(out), { XLFORMERS_FAULT: 'before_rename:2' });
  expect(signal).toBe('SIGKILL');
  // No file may grow beyond 32 KiB: the next save is cut off in the middle of the weights.
  const limited = await runCli(args(out, ['--resume']), {}, "trap '' XFSZ; ulimit -f 32");
  expect(limited.code).toBe(1);
  expect(limited.stderr).toMatch(/ERR_CHECKPOINT_WRITE|cannot be written/);
  await finish(out);
});

describe('a damaged checkpoint is refused by name and the older one used', () => {
  const random = new TestRandom(5);
  const whole = path.join(scratch, 'whole');

  beforeAll(async () => {
    const { signal } = await runCli(args(whole), { XLFORMERS_FAULT: 'after_tmp:5' });
    expect(signal).toBe('SIGKILL');
    expect(readdirSync(whole).filter((name) => name.startsWith('checkpoint-')).length).toBeGreaterThan(1);
  });

  test.each(['model.safetensors', 'optimizer.safetensors', 'mems.safetensors', 'state.json'])('%s', async (file) => {
    for (const damage of ['truncate', 'flip'] as const) {
      const out = path.join(scratch, `${damage}-${file}`);
      cpSync(whole, out, { recursive: true });
      const newest = readdirSync(out)
        .filter((name) => name.startsWith('checkpoint-'))
        .sort()
        .at(-1)!;
      const target = path.join(out, newest, file);
      const bytes = readFileSync(target);
      const position = random.integer(0, bytes.length - 1);
      if (damage === 'truncate') truncateSync(target, position);
      else {
        bytes[position] = bytes[position]! ^ (1 << random.integer(0, 6));
        writeFileSync(target, bytes);
      }
      const { code, stderr } = await runCli(args(out, ['--resume']));
      expect(code).toBe(0);
      expect(stderr).toContain(`passed over ${path.join(out, newest)}`);
      expect(outcome(out)).toEqual(reference());
    }
  });
});

test('another text or model is refused, naming what differs', async () => {
  const out = path.join(scratch, 'reference');
  const other = await runCli(args(out, ['--resume', '--dropout', '0.3']));
  expect(other.code).toBe(1);
  expect(other.stderr).toMatch(/model config.dropout: the checkpoint has 0.2, this run 0.3/);
  const fresh = await runCli(args(out));
  expect(fresh.stderr).toMatch(/holds a run at step 24; resume it/);
});
