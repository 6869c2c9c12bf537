/** Ids of the text before that are decoded along: enough for a space, a word or a character that continues. */
const contextLength = 64;

/**
 * The text of ids that arrive one by one: `push` gives what each adds. Any tokenizer's pieces mean little alone (a space belongs to the
 * next word, a character may take several bytes), so all are decoded together and the news are handed out; a character whose bytes are
 * not all there waits.
 */
export class TextStream {
  private readonly ids: number[];
  private shown: string;

  /**
   * @param decode of the tokenizer
   * @param before ids of the text that the stream continues, which is not handed out again
   */
  constructor(
    private readonly decode: (ids: readonly number[]) => string,
    before: ArrayLike<number> = [],
  ) {
    this.ids = Array.from(before).slice(-contextLength);
    this.shown = this.ids.length === 0 ? '' : decode(this.ids);
  }

  push(id: number): string {
    this.ids.push(id);
    return this.advanceTo(this.decode(this.ids).replace(/\uFFFD+$/, ''));
  }

  /** What still waited. */
  end(): string {
    return this.advanceTo(this.decode(this.ids));
  }

  private advanceTo(text: string): string {
    if (text.length < this.shown.length && this.shown.startsWith(text)) return '';
    // What a detokenizer changed afterwards is shown again from there on; what was shown stays.
    let common = 0;
    while (common < this.shown.length && this.shown[common] === text[common]) common += 1;
    this.shown = text;
    return text.slice(common);
  }
}
