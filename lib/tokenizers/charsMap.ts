import { XlformersError } from '../errors';
import { CharTrie } from './charTrie';

/** The table for NFKC has keys of up to 27 bytes, and 82,000 steps. */
const maxKeyBytes = 64;
const maxSteps = 2 ** 20;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * SentencePiece's compiled normalization table: rules "this string becomes that one".
 *
 * The blob is a little-endian uint32, the size of a double-array trie in bytes, the trie (darts-clone, keys in UTF-8), and the
 * replacements, each ended by a zero byte; a key's value is the offset of its replacement. It is read whole at once, so that damage shows
 * when the file is loaded and never while text is tokenized.
 */
export class CharsMap {
  private readonly trie = new CharTrie();
  private readonly replacements: string[] = [];
  /** By ASCII character: 1 when it has a rule of its own, or one together with an ASCII character. */
  private readonly asciiRules = new Uint8Array(128);
  /** Whether a rule's source has a space anywhere but as the whole of it. */
  joinsSpaces = false;

  /** Of the last `find`: the rule's source length in UTF-16 units. */
  length = 0;

  /** @throws XlformersError ERR_TOKENIZER_PROTO */
  constructor(blob: Uint8Array) {
    if (blob.length === 0) return;
    const view = new DataView(blob.buffer, blob.byteOffset, blob.length);
    const trieBytes = blob.length < 4 ? Infinity : view.getUint32(0, true);
    if (trieBytes > blob.length - 4 || trieBytes % 4 !== 0 || trieBytes === 0) {
      throw damaged(`a trie of ${trieBytes} bytes in ${blob.length}`);
    }
    const units = new Uint32Array(trieBytes / 4);
    for (let index = 0; index < units.length; index += 1) units[index] = view.getUint32(4 + 4 * index, true);
    this.readRules(units, blob.subarray(4 + trieBytes));
  }

  /** Whether this code unit, with a successor in ASCII, meets no rule. */
  isPlain(unit: number): boolean {
    return unit < 128 && this.asciiRules[unit] === 0;
  }

  /**
   * The replacement of the longest (or shortest) rule whose source stands at `index`, or undefined; `length` tells the source's length.
   */
  find(text: string, index: number, longest: boolean): string | undefined {
    let rule = -1;
    let node = 0;
    for (let end = index; end < text.length; end += 1) {
      node = this.trie.step(node, text.charCodeAt(end));
      if (node === 0) break;
      const value = this.trie.value(node);
      if (value < 0) continue;
      rule = value;
      this.length = end + 1 - index;
      if (!longest) break;
    }
    return this.replacements[rule];
  }

  /**
   * Walks the double array depth first. Branches may share their ends (darts-clone builds a graph), so only counting keeps a damaged file
   * from making the walk endless.
   */
  private readRules(units: Uint32Array, strings: Uint8Array): void {
    const byOffset = new Map<number, number>();
    const key: number[] = [];
    let steps = 0;
    const visit = (position: number): void => {
      const first = (position ^ offsetOf(units[position] as number)) >>> 0;
      // Offsets are multiples of 256, so the children of a node lie in one block.
      if (first >= units.length) throw damaged(`a node at ${first} of ${units.length}`);
      for (let byte = 1; byte < 256; byte += 1) {
        const child = (first ^ byte) >>> 0;
        const unit = units[child];
        if (unit === undefined || labelOf(unit) !== byte) continue;
        key.push(byte);
        steps += 1;
        if (key.length > maxKeyBytes || steps > maxSteps) throw damaged('a trie without end');
        if (hasLeaf(unit)) {
          const leaf = (child ^ offsetOf(unit)) >>> 0;
          if (leaf >= units.length) throw damaged(`a leaf at ${leaf} of ${units.length}`);
          this.addRule(decode(key), valueOf(units[leaf] as number), strings, byOffset);
        }
        visit(child);
        key.pop();
      }
    };
    visit(0);
  }

  private addRule(source: string, offset: number, strings: Uint8Array, byOffset: Map<number, number>): void {
    let index = byOffset.get(offset);
    if (index === undefined) {
      const end = strings.indexOf(0, offset);
      if (offset >= strings.length || end < 0) throw damaged(`a replacement at ${offset} of ${strings.length}`);
      index = this.replacements.length;
      byOffset.set(offset, index);
      this.replacements.push(decode(strings.subarray(offset, end)));
    }
    this.trie.set(source, index);
    const first = source.charCodeAt(0);
    if (first < 128 && (source.length === 1 || source.charCodeAt(1) < 128)) this.asciiRules[first] = 1;
    if (source.length > 1 && source.includes(' ')) this.joinsSpaces = true;
  }
}

// The fields of a unit of darts-clone (darts.h, DoubleArrayUnit).
const hasLeaf = (unit: number) => ((unit >>> 8) & 1) === 1;
const valueOf = (unit: number) => unit & 0x7fffffff;
const labelOf = (unit: number) => (unit & 0x800000ff) >>> 0;
const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);

function decode(bytes: ArrayLike<number>): string {
  try {
    return utf8.decode(Uint8Array.from(bytes));
  } catch {
    throw damaged('a string that is not UTF-8');
  }
}

function damaged(what: string): XlformersError {
  return new XlformersError('ERR_TOKENIZER_PROTO', `the normalization table (precompiled charsmap) is damaged: ${what}`);
}
