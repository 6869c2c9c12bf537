/**
 * Tokenizes long texts and prints what it took, a line of JSON for each. A program of its own: where Jest runs code, every look at a global
 * object is slow, and hundreds of millions of them would take minutes.
 */
import { AutoTokenizer, type Tokenizer, XLNetTokenizer } from '../../../lib';
import path from 'node:path';
import { countSteps } from '../../support/trieSteps';

const [folder, what, ...units] = process.argv.slice(2) as [string, 'doubled' | 'hundredMegabytes', ...string[]];

async function main(): Promise<void> {
  const tokenizers: Record<string, Tokenizer> = {
    'tokenizer.json': await AutoTokenizer.fromPretrained(folder),
    'spiece.model': await XLNetTokenizer.fromFile(path.join(folder, 'spiece.model')),
  };
  for (const [name, tokenizer] of Object.entries(tokenizers)) {
    for (const unit of units) {
      const found = what === 'doubled' ? doubled(tokenizer, unit) : hundredMegabytes(tokenizer, unit);
      process.stdout.write(`${JSON.stringify({ name, unit, ...found })}\n`);
    }
  }
}

/** Steps through tries for texts of about as many bytes. */
function doubled(tokenizer: Tokenizer, unit: string): { steps: number[] } {
  const count = (bytes: number) => {
    const text = unit.repeat(Math.ceil(bytes / Buffer.byteLength(unit)));
    return countSteps(() => tokenizer.encode(text));
  };
  // What is kept for the next text is made by the first.
  count(100);
  return { steps: [5000, 10_000, 2 ** 21, 2 ** 22].map(count) };
}

/** How many tokens are outside the vocabulary or do not begin where the one before ends, and where the last ends. */
function hundredMegabytes(tokenizer: Tokenizer, unit: string): { wrong: number; end: number } {
  const { ids, spans } = tokenizer.encode(unit.repeat((100 * 2 ** 20) / unit.length), {
    addSpecialTokens: false,
  }) as unknown as Record<'ids' | 'spans', Int32Array>;
  let wrong = 0;
  let end = 0;
  for (let index = 0; index < ids.length; index += 1) {
    const [id, from, to] = [ids[index] as number, spans[2 * index] as number, spans[2 * index + 1] as number];
    if (id < 0 || id >= tokenizer.vocabSize || from !== end || to <= from) wrong += 1;
    end = to;
  }
  return { wrong, end };
}

void main();
