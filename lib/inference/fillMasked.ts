import { noGrad } from '../autograd';
import { XlformersError, describe } from '../errors';
import type { XLNetLMHeadModel } from '../models/xlnetHeads';
import { requireInteger } from '../ops/checks';
import { topProbabilities } from '../ops/topProbabilities';
import { scope } from '../scope';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';

/**
 * `independent`: every place from the known tokens alone, in one pass. `leftToRight`: a place is filled with its most probable token
 * before the next is predicted, so that the tokens fit together.
 */
export const fillOrders = ['independent', 'leftToRight'] as const;

export type FillOrder = (typeof fillOrders)[number];

export interface FillOptions {
  /** Candidates for each place. Default 5. */
  topK?: number;
  /** Default 'independent'. */
  order?: FillOrder;
  signal?: AbortSignal;
}

export interface FillCandidate {
  id: number;
  /** The vocabulary's text, U+2581 for a space. */
  token: string;
  /** Among the whole vocabulary. */
  probability: number;
}

/** A place that was to be filled. */
export interface FilledPlace {
  /** Its index among the tokens. */
  position: number;
  /** The most probable first. */
  candidates: FillCandidate[];
}

export interface FilledText {
  /** The text with each place filled with its most probable token. */
  text: string;
  /** Its tokens, special ones included. */
  ids: Int32Array;
  places: FilledPlace[];
  /**
   * The sum of the logarithms of the most probable tokens' probabilities. With order 'leftToRight' it is the log-probability of them
   * together.
   */
  logProbability: number;
}

/**
 * Predicts the tokens at each `<mask>` of a text by XLNet's two streams: the query stream at a place knows where it is and sees all
 * tokens but those that are still to be predicted, which no other position sees either (Yang et al. 2019, section 2.3).
 * @throws XlformersError ERR_ARG_RANGE when the text has no `<mask>`, ERR_TOKEN_ID when tokenizer and model do not belong together;
 *   the signal's reason when aborted
 */
export async function fillMasked(
  model: XLNetLMHeadModel,
  tokenizer: XLNetTokenizer,
  text: string,
  { topK = 5, order = 'independent', signal }: FillOptions = {},
): Promise<FilledText> {
  requireInteger('topK', topK, 1, model.config.vocabSize);
  if (!fillOrders.includes(order)) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `order: got ${describe(order)}, expected one of ${fillOrders.join(', ')}`,
    );
  }
  const { ids, typeIds, offsets } = tokenizer.encode(text);
  const mask = tokenizer.maskTokenId;
  const open = Array.from(ids.keys()).filter((position) => ids[position] === mask);
  if (open.length === 0) {
    const name = tokenizer.idToToken(mask);
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `text: has no ${name}, expected one at each place to fill: "The ${name} is blue."`,
    );
  }
  const wasTraining = model.training;
  model.eval();
  try {
    const places: FilledPlace[] = [];
    let logProbability = 0;
    while (open.length > 0) {
      signal?.throwIfAborted();
      const targets = order === 'independent' ? [...open] : open.slice(0, 1);
      const found = await predict(model, ids, typeIds, open, targets, topK);
      found.forEach((candidates, index) => {
        const position = targets[index] as number;
        const best = candidates[0] as { id: number; probability: number };
        ids[position] = best.id;
        logProbability += Math.log(best.probability);
        places.push({
          position,
          candidates: candidates.map((each) => ({ ...each, token: tokenizer.idToToken(each.id) })),
        });
      });
      open.splice(0, targets.length);
    }
    return { text: withTokens(text, places, offsets), ids, places, logProbability };
  } finally {
    if (wasTraining) model.train();
  }
}

/** The text with the best token in each place: pieces that begin a word bring their own space. */
function withTokens(
  text: string,
  places: readonly FilledPlace[],
  offsets: readonly (readonly [start: number, end: number])[],
): string {
  let filled = '';
  let done = 0;
  for (const { position, candidates } of places) {
    const [start, end] = offsets[position] as readonly [number, number];
    const before = (filled + text.slice(done, start)).trimEnd();
    const piece = (candidates[0] as FillCandidate).token.replaceAll('\u2581', ' ');
    filled = before + (before === '' ? piece.trimStart() : piece);
    done = end;
  }
  return filled + text.slice(done);
}

/** @param open positions whose tokens are unknown @param targets those of them to predict now */
async function predict(
  model: XLNetLMHeadModel,
  ids: Int32Array,
  typeIds: Int32Array,
  open: readonly number[],
  targets: readonly number[],
  topK: number,
): Promise<Omit<FillCandidate, 'token'>[][]> {
  const keyRanks = new Int32Array(ids.length);
  // A token is hidden from positions of no higher rank: unknown ones from everybody.
  for (const position of open) keyRanks[position] = 1;
  const result = noGrad(() =>
    scope(() => {
      const { logits } = model.forward({
        inputIds: [ids],
        tokenTypeIds: [typeIds],
        targetPositions: [targets],
        queryRanks: [new Int32Array(ids.length).fill(1)],
        keyRanks: [keyRanks],
        useMems: false,
      });
      const { top, indices } = topProbabilities(logits, topK);
      return { top, indices };
    }),
  );
  try {
    const [top, indices] = await Promise.all([result.top.data(), result.indices.data()]);
    return targets.map((_, row) =>
      Array.from({ length: topK }, (_unused, column) => ({
        id: indices[row * topK + column] as number,
        probability: top[row * topK + column] as number,
      })),
    );
  } finally {
    result.top.dispose();
    result.indices.dispose();
  }
}
