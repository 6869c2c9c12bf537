import type { RandomSource } from './dataRandom';

/** A text as token ids in one row, with its sentences. */
export interface SentenceCorpus {
  tokens: Int32Array;
  /** Of each token 0 or 1; a sentence ends where the value changes. */
  sentences: Uint8Array;
}

/**
 * A text with a sentence on each line and blank lines between documents, as the original reads it: a blank line becomes the token
 * `<eod>`, which belongs to the sentence before it.
 * @param encode token ids of a line, without special tokens
 * @param eodId null: blank lines leave nothing
 */
export function sentenceCorpus(
  text: string,
  encode: (line: string) => ArrayLike<number>,
  eodId: number | null,
): SentenceCorpus {
  let corpus: SentenceCorpus = { tokens: new Int32Array(1024), sentences: new Uint8Array(1024) };
  let length = 0;
  let sentence = 0;
  const add = (ids: ArrayLike<number>) => {
    if (length + ids.length > corpus.tokens.length) corpus = resized(corpus, 2 * (length + ids.length));
    corpus.tokens.set(ids, length);
    corpus.sentences.fill(sentence, length, length + ids.length);
    length += ids.length;
  };
  const lines = text.split('\n');
  // A line feed ends a line; nothing after the last is no blank line.
  if (lines.at(-1) === '') lines.pop();
  for (const line of lines) {
    const trimmed = line.trim();
    if (trimmed === '') {
      if (eodId !== null) add([eodId]);
      continue;
    }
    const ids = encode(trimmed);
    if (ids.length === 0) continue;
    sentence = 1 - sentence;
    add(ids);
  }
  return resized(corpus, length);
}

/**
 * Splits a text of sentences in time order: the last lines, about a share of the characters, are held out.
 * @param share in [0, 0.5)
 * @returns held-out text null where there is no line to cut at
 */
export function splitSentences(text: string, share: number): { train: string; valid: string | null } {
  const goal = text.length - Math.floor(text.length * share);
  const after = text.indexOf('\n', goal - 1);
  const cut = after === -1 || after === text.length - 1 ? text.lastIndexOf('\n', goal - 1) : after;
  if (share === 0 || cut <= 0) return { train: text, valid: null };
  return { train: text.slice(0, cut + 1), valid: text.slice(cut + 1) };
}

function resized({ tokens, sentences }: SentenceCorpus, length: number): SentenceCorpus {
  const copy = { tokens: new Int32Array(length), sentences: new Uint8Array(length) };
  copy.tokens.set(tokens.subarray(0, length));
  copy.sentences.set(sentences.subarray(0, length));
  return copy;
}

/** One of the rows into which a corpus is cut, read forwards or backwards where it lies. */
export class TokenStream {
  constructor(
    private readonly corpus: SentenceCorpus,
    private readonly start: number,
    readonly length: number,
    readonly reversed: boolean,
  ) {}

  private place(position: number): number {
    return this.start + (this.reversed ? this.length - 1 - position : position);
  }

  token(position: number): number {
    return this.corpus.tokens[this.place(position)] as number;
  }

  /** Whether a sentence ends between the token before `position` and the one there. */
  endsBefore(position: number): boolean {
    const { sentences } = this.corpus;
    return sentences[this.place(position - 1)] !== sentences[this.place(position)];
  }
}

/** [aBegin, aEnd) and [bBegin, bEnd) of a stream. */
export interface SegmentPair {
  aBegin: number;
  aEnd: number;
  bBegin: number;
  bEnd: number;
}

/**
 * Two segments of `total` tokens together: A begins at `begin` and ends with a sentence; B is what follows it or, half of the time,
 * sentences from anywhere in the stream. `_split_a_and_b` of the original's data_utils.py, except that a B which reaches the end of
 * the stream is taken: the original drops the batch there for want of a next token, which XLNet's loss does not need.
 */
export function splitSegments(stream: TokenStream, begin: number, total: number, random: RandomSource): SegmentPair {
  // Neither segment keeps more than `total` tokens in the end, so nothing is looked for beyond.
  const horizon = Math.min(stream.length, begin + 2 * total);
  const cuts: number[] = [];
  let end = begin + 1;
  for (; end < horizon; end += 1) {
    if (!stream.endsBefore(end)) continue;
    if (end - begin >= total) break;
    cuts.push(end);
  }
  let aEnd = end;
  let bBegin: number;
  let bEnd: number;
  if (cuts.length === 0 || random.uniform() < 0.5) {
    if (cuts.length > 0) aEnd = cuts[random.integer(cuts.length)] as number;
    const length = Math.max(1, total - (aEnd - begin));
    bBegin = random.integer(stream.length - length);
    bEnd = bBegin + length;
    while (bBegin > 0 && !stream.endsBefore(bBegin)) bBegin -= 1;
    while (bEnd < stream.length - 1 && bEnd - bBegin < total && !stream.endsBefore(bEnd)) bEnd += 1;
  } else {
    aEnd = cuts[random.integer(cuts.length)] as number;
    bBegin = aEnd;
    bEnd = end;
  }
  while (aEnd - begin + bEnd - bBegin > total) {
    if (aEnd - begin > bEnd - bBegin) aEnd -= 1;
    else bEnd -= 1;
  }
  return { aBegin: begin, aEnd, bBegin, bEnd };
}
