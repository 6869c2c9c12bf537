/** A run that is killed, at any moment, and resumed gives the losses and weights of one that was not, bit for bit. */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repository, runCli, startCli } from '../support/cli';
import { TestRandom } from '../support/random';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-resume-'));
const text = path.join(scratch, 'text.txt');
const steps = 24;

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function args(out: string, more: string[] = []): string[] {
  const flags =
    `--steps ${steps} --layers 2 --d-model 32 --d-inner 64 --heads 2 --batch-size 4 --target-length 16 --memory-length 16 ` +
    '--accumulation 2 --dropout 0.2 --learning-rate 0.003 --warmup-steps 3 --eval-interval 5 --eval-max-batches 2 --checkpoint-interval 3 --seed 3';
  return ['train', text, '--out', out, ...flags.split(' '), ...more];
}

/** Steps, losses and gradient norms as logged, and the hash of the final weights. */
function outcome(out: string): { log: object[]; weights: string } {
  const log = readFileSync(path.join(out, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...(JSON.parse(line) as Record<string, unknown>), tokensPerSecond: undefined }));
  const weights = createHash('sha256')
    .update(readFileSync(path.join(out, 'model', 'model.safetensors')))
    .digest('hex');
  return { log, weights };
}

let reference: ReturnType<typeof outcome>;

beforeAll(async () => {
  // Small enough that the run passes the end of the text and begins again.
  writeFileSync(text, readFileSync(path.join(repository, 'lib', 'tensor.ts')).subarray(0, 1200));
  const out = path.join(scratch, 'reference');
  const { code, stderr } = await runCli(args(out));
  expect([code, stderr.includes('Error')]).toEqual([0, false]);
  reference = outcome(out);
  expect(reference.log.filter((entry) => (entry as { event: string }).event === 'step')).toHaveLength(steps);
});

async function finish(out: string): Promise<void> {
  const { code, stderr } = await runCli(args(out, ['--resume']));
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  expect(outcome(out)).toEqual(reference);
  expect(readdirSync(out).filter((name) => name.startsWith('.tmp'))).toEqual([]);
}

const points = ['after_tmp', 'mid_file', 'before_state', 'before_rename', 'after_rename', 'before_latest', 'prune'];

test.each(points)('killed while saving, at %s', async (point) => {
  const out = path.join(scratch, point);
  const { signal } = await runCli(args(out), { XLFORMERS_FAULT: `${point}:3` });
  expect(signal).toBe('SIGKILL');
  await finish(out);
});

test('killed at random moments, again and again', async () => {
  const random = new TestRandom(11);
  const out = path.join(scratch, 'random');
  for (let kill = 0; kill < 5; kill += 1) {
    const { child, done } = startCli(args(out, ['--resume']));
    const timer = setTimeout(() => child.kill('SIGKILL'), random.integer(300, 1600));
    await done;
    clearTimeout(timer);
  }
  await finish(out);
});

test.each(['SIGTERM', 'SIGINT'] as const)('%s saves without an evaluation and exits with 75', async (name) => {
  const out = path.join(scratch, name);
  const { child, done } = startCli(args(out));
  // The first log line: the run is in its steps.
  const started = setInterval(() => {
    if (existsSync(path.join(out, 'log.jsonl')) && readFileSync(path.join(out, 'log.jsonl')).length > 0) {
      clearInterval(started);
      child.kill(name);
    }
  }, 5);
  const { code, stdout } = await done;
  clearInterval(started);
  // A machine quick enough to finish first has nothing to interrupt.
  if (code !== 0) {
    expect(code).toBe(75);
    expect(stdout).toContain('--resume');
  }
  await finish(out);
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
      expect(outcome(out)).toEqual(reference);
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
