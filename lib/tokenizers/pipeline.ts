import type { TokenSink } from './tokenSink';

/** From text to token ids, without the tokens of the template. */
export interface Pipeline {
  /** May stop as soon as the sink holds `enough` tokens that no further text can change. */
  encode(text: string, sink: TokenSink, enough: number): void;
  /** Text of pieces, those to be left out left out. */
  decode(ids: readonly number[]): string;
}

/** U+2581, which stands for a space in pieces. */
export const metaspace = '\u2581';

/** Lone surrogates, which no UTF-8 text has, become U+FFFD. */
export function wellFormed(text: string): string {
  return /\p{Surrogate}/u.test(text) ? text.replace(/\p{Surrogate}/gu, '\ufffd') : text;
}
