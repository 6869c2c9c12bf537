import type { Device } from '../device';
import { XlformersError, describe } from '../errors';
import type { Sampler } from '../nn/sampler';
import { requireInteger } from '../ops/checks';
import type { Tensor } from '../tensor';

export interface DecodingOptions {
  /**
   * How XLNet predicts the next token; Transformer-XL knows one way only, 'exact'.
   *
   * 'exact' (default): a token sees the tokens before it and itself, and the next one is predicted by a row of the query stream that
   * sees all of them (Yang et al. 2019, section 2.3, with the factorization order from left to right). What a token's states are does
   * not depend on what follows, so they can be kept: reading with memory gives the numbers of reading everything again, as long as the
   * memory holds the text (`memLen` null, as in the published checkpoints, or long enough; see `resetMemoryLength`).
   *
   * 'hf': what Hugging Face's `XLNetLMHeadModel.prepare_inputs_for_generation` does (transformers 4.57). Tokens also see those after
   * them, in the same pass: the prompt is read in both directions, and each step reads the two newest tokens again (its `offset = 2`).
   * States of the memory were computed without the tokens that came later, so with memory the numbers are others than without
   * (huggingface/transformers#5770). Choose it to get the tokens that Hugging Face gives.
   */
  decoding?: 'exact' | 'hf';
  /**
   * Whether to keep states of earlier tokens, so that a step reads new ones only. false: every step reads the whole text again; slow,
   * and in 'exact' decoding the same. Default: true; in 'hf' decoding the configuration's `useMemsEval`.
   */
  useMems?: boolean;
  /** Tokens of the prompt read at a time. Of no effect in 'hf' decoding, which reads them in both directions. Default 512. */
  segmentLength?: number;
}

/** Texts that grow token by token, each as if it were alone. Scores are logits or log-probabilities of the next token, [texts, vocabSize]. */
export interface DecodingSession {
  /** Reads the prompts, once and first. @throws the signal's reason when aborted between segments */
  start(prompts: readonly Int32Array[], signal?: AbortSignal): Promise<Tensor>;
  /** Reads one more token of each text. */
  step(ids: ArrayLike<number>): Tensor;
  /**
   * @internal Reads the tokens that the sampler drew last and lets it draw the next ones, without the host having seen the former.
   * @returns false, and does nothing, where `step` is needed
   */
  advance?(sampler: Sampler): boolean;
  /** Goes on with some of the texts, by index, in that order. */
  keep(texts: readonly number[]): void;
  dispose(): void;
}

/** A model that continues texts. */
export interface GenerativeModel {
  readonly device: Device;
  readonly training: boolean;
  readonly config: { readonly vocabSize: number };
  train(): void;
  eval(): void;
  /** @throws XlformersError for options that the model does not have */
  startDecoding(options?: DecodingOptions): DecodingSession;
}

/** @internal The options with defaults. @throws XlformersError ERR_ARG_RANGE, ERR_ARG_TYPE naming the option */
export function decodingOptions({ decoding = 'exact', useMems, segmentLength = 512 }: DecodingOptions = {}): {
  decoding: 'exact' | 'hf';
  useMems: boolean | undefined;
  segmentLength: number;
} {
  if (decoding !== 'exact' && decoding !== 'hf') {
    throw new XlformersError('ERR_ARG_RANGE', `decoding: got ${describe(decoding)}, expected 'exact' or 'hf'`);
  }
  if (useMems !== undefined && typeof useMems !== 'boolean') {
    throw new XlformersError('ERR_ARG_TYPE', `useMems: got ${describe(useMems)}, expected true or false`);
  }
  requireInteger('segmentLength', segmentLength, 1);
  return { decoding, useMems, segmentLength };
}
