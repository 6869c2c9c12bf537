import { XlformersError } from '../errors';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** XLNet's table: 0.2 MB, keys of up to 12 bytes, replacements of up to 36. */
const maxTrieBytes = 2 ** 22;
const maxKeyBytes = 256;
const maxReplacementBytes = 256;

/**
 * SentencePiece's compiled normalization table: rules "this string becomes that one".
 *
 * The blob is a little-endian uint32, the size of a trie in bytes, the trie (a double array of darts-clone, keys in UTF-8, branches
 * sharing their ends), and the replacements, each ended by a zero byte; a key's value is the offset of its replacement. Every unit that
 * can be reached is checked once, so that damage shows when the file is loaded and never while text is tokenized.
 */
export class CharsMap {
  /** Of the last `find`: the length of the rule's source in UTF-16 units. */
  length = 0;
  /** Whether some rule has a space beside other characters: text may then not be cut at spaces before normalizing. */
  joinsSpaces = false;

  private readonly units: Uint32Array;
  private readonly replacements = new Map<number, string>();
  /** By ASCII character: 1 when a rule starts with it and goes on, if at all, in ASCII. */
  private readonly asciiRules = new Uint8Array(128);
  /** Whether the last `step` has reached the end of a key. */
  private atLeaf = false;

  /** @throws XlformersError ERR_TOKENIZER_PROTO */
  constructor(blob: Uint8Array) {
    const view = new DataView(blob.buffer, blob.byteOffset, blob.length);
    const trieBytes = blob.length < 4 ? Infinity : view.getUint32(0, true);
    if (trieBytes > blob.length - 4 || trieBytes % 4 !== 0 || trieBytes === 0 || trieBytes > maxTrieBytes) {
      throw damaged(`a trie of ${trieBytes} bytes in ${blob.length}`);
    }
    this.units = new Uint32Array(trieBytes / 4);
    for (let index = 0; index < this.units.length; index += 1) this.units[index] = view.getUint32(4 + 4 * index, true);
    this.check(blob.subarray(4 + trieBytes));
    for (let first = 0; first < 128; first += 1) {
      const starts = (second: string) => this.find(String.fromCharCode(first) + second, 0, true) !== undefined;
      const follows = (_: unknown, second: number) => starts(String.fromCharCode(second));
      if (starts('') || Array.from({ length: 128 }, follows).includes(true)) this.asciiRules[first] = 1;
    }
  }

  /** Whether this code unit is ASCII and meets no rule unless something else than ASCII follows. */
  isPlain(unit: number): boolean {
    return unit < 128 && this.asciiRules[unit] === 0;
  }

  /** The replacement of the longest (or shortest) rule whose source stands at `index`, or undefined. */
  find(text: string, index: number, longest: boolean): string | undefined {
    let found: string | undefined;
    let node = this.childrenOf(0);
    for (let at = index; at < text.length;) {
      const code = text.codePointAt(at) as number;
      at += code > 0xffff ? 2 : 1;
      node = this.stepCharacter(node, code);
      if (node < 0) break;
      if (!this.atLeaf) continue;
      // The value of a key stands where the child of its last node by byte 0 would.
      found = this.replacements.get(valueOf(this.units[node] as number));
      this.length = at - index;
      if (!longest) break;
    }
    return found;
  }

  /** By the bytes of a character in UTF-8. */
  private stepCharacter(block: number, code: number): number {
    if (code < 0x80) return this.step(block, code);
    let node = block;
    if (code < 0x800) {
      node = this.step(node, 0xc0 | (code >> 6));
    } else {
      if (code < 0x10000) {
        node = this.step(node, 0xe0 | (code >> 12));
      } else {
        node = this.step(node, 0xf0 | (code >> 18));
        node = this.step(node, 0x80 | ((code >> 12) & 0x3f));
      }
      node = this.step(node, 0x80 | ((code >> 6) & 0x3f));
    }
    return this.step(node, 0x80 | (code & 0x3f));
  }

  /** From a block of children to that of the child by this byte; -1 when there is none. */
  private step(block: number, byte: number): number {
    if (block < 0) return -1;
    const child = (block ^ byte) >>> 0;
    const unit = this.units[child] as number;
    if (labelOf(unit) !== byte) return -1;
    this.atLeaf = hasLeaf(unit);
    return (child ^ offsetOf(unit)) >>> 0;
  }

  private childrenOf(node: number): number {
    return (node ^ offsetOf(this.units[node] as number)) >>> 0;
  }

  /** Visits every node once, children before parents, so that cycles and overlong keys show. */
  private check(strings: Uint8Array): void {
    const { units } = this;
    /** The longest way on from a node, plus 1; 0 where it was not visited, -1 while its children are. */
    const heights = new Int16Array(units.length);
    const path = [{ node: 0, byte: 0 }];
    heights[0] = -1;
    this.checkNode(0, strings);
    while (path.length > 0) {
      const top = path[path.length - 1] as { node: number; byte: number };
      const block = this.childrenOf(top.node);
      let child = -1;
      while (child < 0 && top.byte < 255) {
        top.byte += 1;
        const unit = (block ^ top.byte) >>> 0;
        if (labelOf(units[unit] as number) === top.byte) child = unit;
      }
      if (child < 0) {
        path.pop();
        heights[top.node] = this.heightOf(block, heights);
        continue;
      }
      // In UTF-8 no other character has the byte of a space.
      if (top.byte === 0x20 && (top.node !== 0 || this.hasChildren(child))) this.joinsSpaces = true;
      const height = heights[child] as number;
      if (height < 0 || path.length + height > maxKeyBytes) throw damaged(`keys of more than ${maxKeyBytes} bytes`);
      if (height > 0) continue;
      heights[child] = -1;
      this.checkNode(child, strings);
      path.push({ node: child, byte: 0 });
    }
  }

  private heightOf(block: number, heights: Int16Array): number {
    let height = 1;
    for (let byte = 1; byte < 256; byte += 1) {
      const child = (block ^ byte) >>> 0;
      if (labelOf(this.units[child] as number) === byte) height = Math.max(height, 1 + (heights[child] as number));
    }
    return height;
  }

  private checkNode(node: number, strings: Uint8Array): void {
    const { units } = this;
    const block = this.childrenOf(node);
    // Children lie within 256 aligned units, all there: then no step can leave the trie.
    if ((block | 0xff) >>> 0 >= units.length) throw damaged(`children at ${block} of ${units.length}`);
    if (node !== 0 && hasLeaf(units[node] as number)) this.readReplacement(valueOf(units[block] as number), strings);
  }

  private hasChildren(node: number): boolean {
    const block = this.childrenOf(node);
    for (let byte = 1; byte < 256; byte += 1) {
      if (labelOf(this.units[(block ^ byte) >>> 0] ?? 0) === byte) return true;
    }
    return false;
  }

  private readReplacement(offset: number, strings: Uint8Array): void {
    if (this.replacements.has(offset)) return;
    // Not to the end of the blob: offsets into one long string would make a copy of it each.
    const end = strings.subarray(offset, offset + maxReplacementBytes + 1).indexOf(0) + offset;
    if (offset >= strings.length || end < offset) throw damaged(`a replacement at ${offset} of ${strings.length}`);
    try {
      this.replacements.set(offset, utf8.decode(strings.subarray(offset, end)));
    } catch {
      throw damaged(`a replacement at ${offset} that is not UTF-8`);
    }
  }
}

// The fields of a unit of darts-clone (darts.h, DoubleArrayUnit).
const hasLeaf = (unit: number) => ((unit >>> 8) & 1) === 1;
const valueOf = (unit: number) => unit & 0x7fffffff;
const labelOf = (unit: number) => (unit & 0x800000ff) >>> 0;
const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);

function damaged(what: string): XlformersError {
  return new XlformersError(
    'ERR_TOKENIZER_PROTO',
    `the normalization table (precompiled charsmap) is damaged: ${what}`,
  );
}
