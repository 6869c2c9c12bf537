import { XlformersError } from '../errors';
import type { Tokens } from './tokenSink';

/** A place in a template: the tokens of a text, or a special token. */
export type TemplatePart = { sequence: 0 | 1; typeId: number } | { id: number; typeId: number };

export type Template = readonly TemplatePart[];

/** One text, or a pair, as a model reads it. All arrays have one entry per token. */
export class Encoding {
  constructor(
    readonly ids: Int32Array,
    /** The segment that each token belongs to: 0 the first text, 1 the second, 2 `<cls>`. */
    readonly typeIds: Int32Array,
    private readonly spans: Int32Array,
    private readonly pieces: readonly string[],
    private readonly specialIds: ReadonlySet<number>,
  ) {}

  /** 1 for special tokens, be they from the template or from the text. */
  get specialTokensMask(): Int32Array {
    return this.ids.map((id) => (this.specialIds.has(id) ? 1 : 0));
  }

  /** Ones: nothing is padding. */
  get attentionMask(): Int32Array {
    return new Int32Array(this.ids.length).fill(1);
  }

  /** The vocabulary's text of each token, U+2581 for a space. */
  get tokens(): string[] {
    return Array.from(this.ids, (id) => this.pieces[id] as string);
  }

  /** The range of each token in its text, in UTF-16 units: `text.slice(...offsets[i])`. [0, 0] for tokens that the template put in. */
  get offsets(): [start: number, end: number][] {
    return Array.from(this.ids, (_, index) => [this.spans[2 * index] as number, this.spans[2 * index + 1] as number]);
  }
}

/** Puts the tokens of one text or two in their places. */
export function fillTemplate(
  template: Template,
  sequences: readonly Tokens[],
  specialIds: ReadonlySet<number>,
  pieces: readonly string[],
): Encoding {
  const length = sequences.reduce((sum, { ids }) => sum + ids.length, templateLength(template));
  const ids = new Int32Array(length);
  const typeIds = new Int32Array(length);
  const spans = new Int32Array(2 * length);
  let at = 0;
  for (const part of template) {
    if ('id' in part) {
      ids[at] = part.id;
      typeIds[at] = part.typeId;
      at += 1;
    } else {
      const tokens = sequences[part.sequence] as Tokens;
      ids.set(tokens.ids, at);
      spans.set(tokens.spans, 2 * at);
      typeIds.fill(part.typeId, at, at + tokens.ids.length);
      at += tokens.ids.length;
    }
  }
  return new Encoding(ids, typeIds, spans, pieces, specialIds);
}

/** How many tokens a template adds. */
export function templateLength(template: Template): number {
  return template.filter((part) => 'id' in part).length;
}

/** @throws XlformersError ERR_ARG_RANGE when `added` tokens alone are more than `maxLength` */
export function requireRoom(maxLength: number, added: number): void {
  if (maxLength >= added) return;
  throw new XlformersError(
    'ERR_ARG_RANGE',
    `maxLength: got ${maxLength}, expected at least ${added}, which special tokens take`,
  );
}

export type Truncation = 'longestFirst' | 'onlyFirst' | 'onlySecond';

/**
 * Shortens the texts so that they and `added` further tokens fit into `maxLength`, at least `added`, dropping tokens at the end.
 * @param oddToFirst of two texts cut to equal lengths, the first keeps the odd token. Hugging Face's Python tokenizers do so; its Rust
 *   ones give it to the text that was longer, the second where both were equal
 * @throws XlformersError ERR_ARG_RANGE when that cannot be
 */
export function truncate(
  sequences: readonly Tokens[],
  strategy: Truncation,
  maxLength: number,
  added: number,
  oddToFirst: boolean,
): Tokens[] {
  const room = maxLength - added;
  const lengths = sequences.map(({ ids }) => ids.length);
  const [first = 0, second = 0] = lengths;
  if (first + second <= room) return [...sequences];
  const kept = keptLengths(strategy, first, second, sequences.length, room, oddToFirst);
  if (kept === undefined) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `maxLength: got ${maxLength}, which texts of ${lengths.join(' and ')} tokens and ${added} special tokens cannot be cut to ` +
        `by truncation '${strategy}'`,
    );
  }
  return sequences.map(({ ids, spans }, index) => ({
    ids: ids.subarray(0, kept[index]),
    spans: spans.subarray(0, 2 * (kept[index] as number)),
  }));
}

function keptLengths(
  strategy: Truncation,
  first: number,
  second: number,
  count: number,
  room: number,
  oddToFirst: boolean,
): [number, number] | undefined {
  if (strategy === 'onlySecond') return count === 2 && room >= first ? [first, room - first] : undefined;
  if (strategy === 'onlyFirst' || count === 1) return room >= second ? [room - second, second] : undefined;
  const half = Math.floor(room / 2);
  if (Math.min(first, second) <= half) {
    return first <= second ? [first, room - first] : [room - second, second];
  }
  return oddToFirst || first > second ? [room - half, half] : [half, room - half];
}
