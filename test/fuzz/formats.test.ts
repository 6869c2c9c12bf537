import { formats } from '../../scripts/fuzz/formats';
import { fuzz } from '../../scripts/fuzz/run';

/** As many as take a second or two; longer runs by hand: scripts/fuzz/main.ts. */
const cases: Record<string, number> = {
  'tokenizer-json': 200,
  spiece: 400,
  index: 1000,
  'torch-zip': 1000,
  'torch-legacy': 1000,
};

test.each(Object.entries(formats))('%s: mutated files are read within bounds or refused', async (name, format) => {
  const count = cases[name] ?? 2000;
  const { outcomes } = await fuzz(format, { seed: 20, first: 0, cases: count });
  const accepted = outcomes.get('accepted') ?? 0;
  // A fuzzer whose files are all refused at once, or all accepted, tests nothing.
  expect(accepted).toBeGreaterThan(0);
  expect(outcomes.size).toBeGreaterThan(1);
  expect([...outcomes.values()].reduce((sum, each) => sum + each, 0)).toBe(count);
});

test('a case depends on its seed and number only', async () => {
  const seen: Buffer[] = [];
  const onCase = ({ file }: { file: Buffer }) => seen.push(file);
  const format = formats.safetensors!;
  await fuzz(format, { seed: 3, first: 0, cases: 5, onCase });
  await fuzz(format, { seed: 3, first: 4, cases: 1, onCase });
  expect(seen[5]!.equals(seen[4]!)).toBe(true);
});

test('a reader that fails in another way is a failure that names its case', async () => {
  const broken = { ...formats.config!, check: () => Promise.reject(new RangeError('stack')) };
  await expect(fuzz(broken, { seed: 4, first: 2, cases: 1 })).rejects.toThrow('seed 4, case 2: stack');
  const wrong = { ...formats.config!, check: () => Promise.reject(new Error('out of bounds: x')) };
  await expect(fuzz(wrong, { seed: 4, first: 2, cases: 1 })).rejects.toThrow('seed 4, case 2: out of bounds: x');
});
