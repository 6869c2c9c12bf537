import type { AddedToken } from './addedTokens';
import type { Template } from './encoding';
import type { Pipeline } from './pipeline';

/** What a tokenizer file amounts to. */
export interface TokenizerParts {
  pipeline: Pipeline;
  /** By id, added tokens included. */
  pieces: readonly string[];
  addedTokens: readonly AddedToken[];
  single: Template;
  pair: Template;
  /** See `truncate`. */
  oddToFirst: boolean;
}
