import { CharTrie } from './charTrie';
import { isWhitespace } from './unicode';

/** A token that is found in the text before it is split: `<sep>` and the like. */
export interface AddedToken {
  id: number;
  content: string;
  /** Takes the white space before it along. */
  lstrip: boolean;
  /** Takes the white space after it along. */
  rstrip: boolean;
  /** Only as a word of its own. */
  singleWord: boolean;
  /** Searched in the normalized text, not in the text as it is. */
  normalized: boolean;
  /** Dropped by `decode` with `skipSpecialTokens`. */
  special: boolean;
}

const wordCharacter = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u;

/** Finds added tokens, the leftmost first and of those the longest, as added_vocabulary.rs of Hugging Face's `tokenizers`. */
export class AddedTokenMatcher {
  private readonly trie = new CharTrie();
  private readonly byUnit = new Uint8Array(65536);

  constructor(private readonly tokens: readonly AddedToken[]) {
    tokens.forEach(({ content }, index) => {
      this.trie.set(content, index);
      this.byUnit[content.charCodeAt(0)] = 1;
    });
  }

  /** Calls back for every stretch of the text in order, tokens and what lies between them, until one call returns false. */
  forEach(
    text: string,
    onText: (from: number, to: number) => unknown,
    onToken: (id: number, from: number, to: number) => unknown,
  ): void {
    let done = 0;
    if (this.tokens.length > 0) {
      for (let index = 0; index < text.length;) {
        const length = this.byUnit[text.charCodeAt(index)] ? this.trie.longest(text, index) : 0;
        if (length === 0) {
          index += 1;
          continue;
        }
        const token = this.tokens[this.trie.get(text.slice(index, index + length))] as AddedToken;
        let [start, end] = [index, index + length];
        index = end;
        if (token.singleWord && !isWord(text, start, end)) continue;
        if (token.lstrip) while (start > done && isWhitespace(text.charCodeAt(start - 1))) start -= 1;
        if (token.rstrip) while (end < text.length && isWhitespace(text.charCodeAt(end))) end += 1;
        if (start > done && onText(done, start) === false) return;
        if (onToken(token.id, start, end) === false) return;
        done = end;
        index = Math.max(index, end);
      }
    }
    if (done < text.length) onText(done, text.length);
  }

  /** Whether any token occurs. */
  occursIn(text: string): boolean {
    return this.tokens.some(({ content }) => text.includes(content));
  }
}

function isWord(text: string, start: number, end: number): boolean {
  const before = Array.from(text.slice(Math.max(0, start - 2), start)).at(-1) ?? '';
  const after = Array.from(text.slice(end, end + 2))[0] ?? '';
  return !wordCharacter.test(before) && !wordCharacter.test(after);
}
