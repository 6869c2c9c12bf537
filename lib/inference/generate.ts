import { XlformersError, describe } from '../errors';
import type { DecodingOptions, GenerativeModel } from '../models/decoding';
import { type DrawnToken, Sampler, type SamplerOptions } from '../nn/sampler';
import { requireInteger } from '../ops/checks';
import { type SampleOptions, checkSampleOptions } from '../ops/sample';
import { requireKnownOptions } from '../options';
import { Generator } from '../random';
import type { Tensor } from '../tensor';

/** Temperature 0 is greedy; see `SampleOptions` for it, topK and topP, and `DecodingOptions` for decoding and useMems. */
export interface GenerateOptions extends Omit<SampleOptions, 'generator'>, DecodingOptions {
  /** Tokens to draw, at most, for each prompt. */
  maxTokens: number;
  /** The same seed gives the same text. Default 1. */
  seed?: number;
  /** Ends a text; the id itself is not yielded. */
  stopId?: number;
  /** Ends all, before the next token. */
  signal?: AbortSignal;
}

export interface GenerateBatchOptions extends Omit<GenerateOptions, 'seed'> {
  /** One for all prompts, or one for each: a prompt's text is the one that it gives alone with that seed. Default 1. */
  seed?: number | readonly number[];
}

const optionNames = Object.keys({
  maxTokens: true,
  seed: true,
  stopId: true,
  segmentLength: true,
  signal: true,
  temperature: true,
  topK: true,
  topP: true,
  decoding: true,
  useMems: true,
} satisfies Record<keyof GenerateOptions, true>);

/** One drawn token: its id, and its log-probability before temperature and truncation. */
export type GeneratedToken = DrawnToken;

export interface GeneratedBatchToken extends GeneratedToken {
  /** The index of its prompt. */
  row: number;
}

/**
 * Continues a prompt, token by token. States of what was read are kept: each step reads the newest token only.
 * @param model a language model with Transformer-XL or XLNet inside; dropout is off while this runs
 * @param prompt ids, at least one
 * @throws XlformersError ERR_ARG_RANGE, ERR_ARG_TYPE, ERR_TOKEN_ID naming index and value, ERR_CONFIG for a misspelt option,
 *   ERR_UNSUPPORTED; the signal's reason when aborted
 */
export async function* generate(
  model: GenerativeModel,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken> {
  const ids = requirePrompt('prompt', prompt, model.config.vocabSize);
  for await (const { id, logProbability } of generateBatch(model, [ids], options)) yield { id, logProbability };
}

/**
 * Continues several prompts of any lengths at once. Each gives the tokens that it gives alone, with the same seed; log-probabilities
 * agree within rounding. Tokens come step by step, in the order of the prompts; a text that has met `stopId` leaves the batch while the
 * others go on.
 * @param prompts ids, at least one in each
 * @throws XlformersError as `generate`
 */
export async function* generateBatch(
  model: GenerativeModel,
  prompts: readonly ArrayLike<number>[],
  options: GenerateBatchOptions,
): AsyncGenerator<GeneratedBatchToken> {
  requireKnownOptions('generate', optionNames, options);
  const { maxTokens, seed = 1, stopId, signal, decoding, useMems, segmentLength, ...sampling } = options;
  const { vocabSize } = model.config;
  requireInteger('maxTokens', maxTokens, 0);
  checkSampleOptions(sampling);
  if (stopId !== undefined) requireInteger('stopId', stopId, 0, vocabSize - 1);
  if (!Array.isArray(prompts) || prompts.length === 0) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `prompts: got ${describe(prompts)}, expected an array of one prompt or more`,
    );
  }
  const texts = (prompts as typeof prompts).map((prompt, row) => requirePrompt(`prompts[${row}]`, prompt, vocabSize));
  // Each text draws from a generator of its own, which its neighbours do not move.
  const generators = seedsOf(seed, texts.length).map((each) => new Generator(each));
  const session = model.startDecoding({ decoding, useMems, segmentLength });
  let sampler: Sampler | null = null;
  const wasTraining = model.training;
  model.eval();
  try {
    signal?.throwIfAborted();
    if (maxTokens === 0) return;
    sampler = firstDraw(await session.start(texts, signal), sampling, generators);
    let rows = texts.map((_, row) => row);
    for (let count = 1; ; count += 1) {
      const reading = sampler.read();
      reading.catch(() => {}); // told below, unless what comes before has failed
      // While these tokens are on their way to the host, the device goes on with them where it can. What leaves is left out afterwards.
      const ahead = count < maxTokens && session.advance?.(sampler) === true;
      const drawn = await reading;
      const going = rows.map((_, index) => index).filter((index) => (drawn[index] as GeneratedToken).id !== stopId);
      for (const index of going) yield { row: rows[index] as number, ...(drawn[index] as GeneratedToken) };
      signal?.throwIfAborted();
      if (going.length === 0 || count === maxTokens) return;
      if (going.length < rows.length) {
        session.keep(going);
        const all: Sampler = sampler;
        sampler = all.select(going);
        all.dispose();
        rows = going.map((index) => rows[index] as number);
      }
      if (ahead) continue;
      const scores = session.step(going.map((index) => (drawn[index] as GeneratedToken).id));
      sampler.draw(scores);
      scores.dispose();
    }
  } finally {
    sampler?.dispose();
    session.dispose();
    if (wasTraining) model.train();
  }
}

/** Draws the first token of each text, and frees the scores. */
function firstDraw(scores: Tensor, sampling: SamplerOptions, generators: readonly Generator[]): Sampler {
  try {
    return Sampler.first(scores, sampling, generators);
  } finally {
    scores.dispose();
  }
}

function seedsOf(seed: number | readonly number[], count: number): readonly number[] {
  if (typeof seed === 'number') return new Array<number>(count).fill(seed);
  if (!Array.isArray(seed) || seed.length !== count) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `seed: got ${describe(seed)}, expected a number or ${count}, one for each prompt`,
    );
  }
  return seed as readonly number[];
}

function requirePrompt(name: string, prompt: ArrayLike<number>, vocabSize: number): Int32Array {
  const length: unknown = (prompt as ArrayLike<number> | null)?.length;
  if (typeof prompt === 'string' || typeof length !== 'number' || length === 0) {
    throw new XlformersError('ERR_ARG_RANGE', `${name}: got ${describe(prompt)}, expected token ids, at least one`);
  }
  return Int32Array.from(prompt, (id, index) => {
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) return id;
    throw new XlformersError(
      'ERR_TOKEN_ID',
      `${name}[${index}]: got ${describe(id)}, expected an id in [0, ${vocabSize})`,
    );
  });
}
