import { noGrad } from '../autograd';
import { requireTokenIds } from '../data/tokenIds';
import { XlformersError } from '../errors';
import type { Memory } from '../nn/memory';
import { type SampleOptions, checkSampleOptions, sample } from '../ops/sample';
import { requireInteger } from '../ops/checks';
import { reshape, slice } from '../ops/shape';
import { requireKnownOptions } from '../options';
import { Generator } from '../random';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import type { LanguageModel } from '../models/languageModel';

export interface GenerateOptions extends Omit<SampleOptions, 'generator'> {
  /** Tokens to draw. */
  maxTokens: number;
  /** The same seed gives the same text. Default 1. */
  seed?: number;
  /** Ends the text; the id itself is not yielded. */
  stopId?: number;
  /** Tokens of the prompt fed at a time. Default 512. */
  segmentLength?: number;
  signal?: AbortSignal;
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
} satisfies Record<keyof GenerateOptions, true>);

/** One drawn token. */
export interface GeneratedToken {
  id: number;
  /** Before temperature and truncation. */
  logProbability: number;
}

/**
 * Continues a prompt, token by token. The memory is carried: each step feeds one token, and everything before it is memory.
 * @param prompt ids, at least one
 * @throws XlformersError ERR_ARG_RANGE, ERR_TOKEN_ID naming index and value, ERR_CONFIG for a misspelt option; the signal's reason when aborted
 */
export async function* generate(
  model: LanguageModel,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken> {
  requireKnownOptions('generate', optionNames, options);
  const { maxTokens, seed = 1, stopId, segmentLength = 512, signal, ...sampling } = options;
  requireInteger('maxTokens', maxTokens, 0);
  requireInteger('segmentLength', segmentLength, 1);
  checkSampleOptions(sampling);
  if (prompt.length === 0) {
    throw new XlformersError('ERR_ARG_RANGE', 'prompt: got no ids, expected at least one');
  }
  requireTokenIds('prompt', prompt);
  const generator = new Generator(seed);
  const wasTraining = model.training;
  model.eval();
  let mems: Memory | undefined;
  const feed = (ids: Int32Array): { id: Tensor; logProbability: Tensor } => {
    const result = noGrad(() =>
      scope(() => {
        const inputIds = Tensor.from(ids, [1, ids.length], { device: model.device });
        const { predictionScores, mems: next } = model.forward({ inputIds, mems });
        const last = slice(predictionScores as Tensor, 1, ids.length - 1, ids.length);
        const { ids: id, logProbability } = sample(reshape(last, [1, last.shape[2] as number]), {
          ...sampling,
          generator,
        });
        return { id, logProbability, mems: next };
      }),
    );
    mems?.dispose();
    mems = result.mems ?? undefined;
    return result;
  };
  try {
    const ids = Int32Array.from(prompt);
    let start = 0;
    for (; start + segmentLength < ids.length; start += segmentLength) {
      signal?.throwIfAborted();
      const { id, logProbability } = feed(ids.subarray(start, start + segmentLength));
      id.dispose();
      logProbability.dispose();
    }
    let input = ids.subarray(start);
    for (let count = 0; count < maxTokens; count += 1) {
      signal?.throwIfAborted();
      const drawn = feed(input);
      const [[id], [logProbability]] = (await Promise.all([drawn.id.data(), drawn.logProbability.data()])) as [
        ArrayLike<number> & Iterable<number>,
        ArrayLike<number> & Iterable<number>,
      ];
      drawn.id.dispose();
      drawn.logProbability.dispose();
      if (id === stopId) return;
      yield { id: id as number, logProbability: logProbability as number };
      input = Int32Array.of(id as number);
    }
  } finally {
    mems?.dispose();
    if (wasTraining) model.train();
  }
}
