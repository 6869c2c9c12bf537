import { XlformersError } from '../errors';
import { maxNormalizedLength } from './limits';

/**
 * Text that remembers where it came from: for every UTF-16 unit the range of the original text, which token offsets are made of. While
 * nothing has changed there are no tables.
 */
export class AlignedText {
  constructor(
    readonly text: string,
    readonly starts?: Int32Array,
    readonly ends?: Int32Array,
  ) {}

  get length(): number {
    return this.text.length;
  }

  /** Where the original of this unit begins. */
  start(index: number): number {
    return this.starts === undefined ? index : (this.starts[index] as number);
  }

  /** Where the original of this unit ends. */
  end(index: number): number {
    return this.ends === undefined ? index + 1 : (this.ends[index] as number);
  }

  /** Where the original of the character at `index` ends: of both its units, where it has two. */
  characterEnd(index: number): number {
    const unit = this.text.charCodeAt(index);
    return this.end(unit >= 0xd800 && unit <= 0xdbff ? index + 1 : index);
  }
}

const partLength = 2 ** 16;

/** Builds a changed text from the parts of another. */
export class AlignedBuilder {
  /** The text so far: parts, and the units that will be the next of them. */
  private readonly parts: string[] = [];
  private pending = '';
  private length = 0;
  private starts: Int32Array;
  private ends: Int32Array;

  constructor(private readonly source: AlignedText) {
    this.starts = new Int32Array(source.length + (source.length >> 2) + 16);
    this.ends = new Int32Array(source.length + (source.length >> 2) + 16);
  }

  /** Takes over units [from, to) of the source. */
  copy(from: number, to: number): void {
    let at = this.reserve(to - from);
    const { starts, ends } = this;
    const { text, starts: sourceStarts, ends: sourceEnds } = this.source;
    this.append(text.slice(from, to));
    if (sourceStarts === undefined || sourceEnds === undefined) {
      for (let index = from; index < to; index += 1, at += 1) {
        starts[at] = index;
        ends[at] = index + 1;
      }
    } else if (to - from > 64) {
      starts.set(sourceStarts.subarray(from, to), at);
      ends.set(sourceEnds.subarray(from, to), at);
    } else {
      for (let index = from; index < to; index += 1, at += 1) {
        starts[at] = sourceStarts[index] as number;
        ends[at] = sourceEnds[index] as number;
      }
    }
  }

  /** Puts `replacement` where units [from, to) of the source, at least one, stood. */
  replace(from: number, to: number, replacement: string): void {
    const at = this.reserve(replacement.length);
    this.starts.fill(this.source.start(from), at, at + replacement.length);
    this.ends.fill(this.source.end(to - 1), at, at + replacement.length);
    this.append(replacement);
  }

  /**
   * The same, character by character: the nth of the replacement has the range of the nth that stood there, further ones that of the last.
   */
  replaceInStep(from: number, to: number, replacement: string): void {
    let source = from;
    let sourceEnd = from;
    for (const character of replacement) {
      if (sourceEnd < to) {
        source = sourceEnd;
        sourceEnd += (this.source.text.codePointAt(source) as number) > 0xffff ? 2 : 1;
      }
      this.replace(source, sourceEnd, character);
    }
  }

  finish(): AlignedText {
    return new AlignedText(this.parts.join('') + this.pending, this.starts, this.ends);
  }

  /** Engines keep what is appended as a tree with a node for every piece, which weighs tens of bytes; reading a unit makes it flat. */
  private append(piece: string): void {
    this.length += piece.length;
    this.pending += piece;
    if (this.pending.length < partLength) return;
    this.pending.charCodeAt(0);
    this.parts.push(this.pending);
    this.pending = '';
  }

  /** Room for `count` more units; returns where they begin. @throws XlformersError ERR_ARG_RANGE when the text grows without measure */
  private reserve(count: number): number {
    const used = this.length;
    if (used + count > maxNormalizedLength) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `text: normalization makes more than ${maxNormalizedLength} characters of it; encode it in parts`,
      );
    }
    if (used + count > this.starts.length) {
      const capacity = 2 * (used + count);
      const starts = new Int32Array(capacity);
      starts.set(this.starts);
      const ends = new Int32Array(capacity);
      ends.set(this.ends);
      Object.assign(this, { starts, ends });
    }
    return used;
  }
}
