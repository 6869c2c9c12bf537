import type { DeviceLike } from '../device';
import { XlformersError } from '../errors';
import { type Rules, applyRules, choiceRule, integerRule } from '../options';
import { Tensor } from '../tensor';
import type { Encoding, Truncation } from './encoding';

export type PaddingSide = 'left' | 'right';

/** Options of `encodeBatch`. */
export interface BatchOptions {
  /** `true` or 'longest' (default): to the longest row. 'maxLength': to `maxLength`. `false`: rows must be of one length. */
  padding?: boolean | 'longest' | 'maxLength';
  /** Default 'left' for XLNet, as it was trained; 'right' for models that look back only. */
  paddingSide?: PaddingSide;
  /** Lengthens rows to a multiple of this many tokens. Default 1. */
  padToMultipleOf?: number;
  /** `true` or 'longestFirst', 'onlyFirst', 'onlySecond': drops tokens at the end of the texts to reach `maxLength`. Default false. */
  truncation?: boolean | Truncation;
  /** In tokens, special tokens included. */
  maxLength?: number;
  /** Default true. */
  addSpecialTokens?: boolean;
  /** Where the tensors shall be. */
  device?: DeviceLike;
}

/** Rows of equal length, each tensor int32 [batch, length]. */
export interface EncodedBatch {
  inputIds: Tensor;
  tokenTypeIds: Tensor;
  /** 1 for tokens, 0 for padding. */
  attentionMask: Tensor;
}

/** What padding is filled with. */
export interface PaddingValues {
  id: number;
  typeId: number;
}

type LayoutOptions = Required<Pick<BatchOptions, 'padding' | 'paddingSide' | 'padToMultipleOf' | 'truncation'>> & {
  maxLength: number;
};

const anyOf = (fallback: unknown, choices: readonly unknown[]) => ({
  ...choiceRule('', []),
  fallback,
  accepts: (value: unknown) => choices.includes(value),
  expected: `one of ${choices.join(', ')}`,
});

const rulesFor = (side: PaddingSide): Rules<LayoutOptions> => ({
  padding: anyOf(true, [true, false, 'longest', 'maxLength']),
  paddingSide: choiceRule(side, ['left', 'right']),
  padToMultipleOf: integerRule(1, 1, 2 ** 20),
  truncation: anyOf(false, [true, false, 'longestFirst', 'onlyFirst', 'onlySecond']),
  maxLength: integerRule(0, 0, 2 ** 31 - 1),
});

const rules = { left: rulesFor('left'), right: rulesFor('right') };

/** The options that say how rows are laid out, with defaults filled in; `maxLength` 0 is none. */
export function layoutOptions(
  given: Omit<BatchOptions, 'device' | 'addSpecialTokens'>,
  side: PaddingSide,
): LayoutOptions {
  const options = applyRules('options', rules[side], given);
  if (options.maxLength === 0 && (options.truncation !== false || options.padding === 'maxLength')) {
    throw new XlformersError('ERR_CONFIG', 'options.maxLength: is missing; truncation and padding to it need it');
  }
  return options;
}

/** Rows as one block each. @throws XlformersError ERR_ARG_SHAPE when rows differ in length and shall not be padded */
export function layOut(
  rows: readonly Encoding[],
  { padding, paddingSide, padToMultipleOf, maxLength }: LayoutOptions,
  values: PaddingValues,
  device: DeviceLike | undefined,
): EncodedBatch {
  const longest = rows.reduce((length, { ids }) => Math.max(length, ids.length), 0);
  const odd = rows.findIndex(({ ids }) => ids.length !== longest);
  if (padding === false && odd >= 0) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `texts: number ${odd} has ${rows[odd]?.ids.length} tokens, the longest ${longest}; a tensor needs padding: true`,
    );
  }
  const wanted = padding === 'maxLength' ? Math.max(longest, maxLength) : longest;
  const length = padding === false ? longest : Math.ceil(wanted / padToMultipleOf) * padToMultipleOf;

  const shape = [rows.length, length];
  const inputIds = new Int32Array(rows.length * length).fill(values.id);
  const tokenTypeIds = new Int32Array(rows.length * length).fill(values.typeId);
  const attentionMask = new Int32Array(rows.length * length);
  rows.forEach(({ ids, typeIds }, row) => {
    const at = row * length + (paddingSide === 'left' ? length - ids.length : 0);
    inputIds.set(ids, at);
    tokenTypeIds.set(typeIds, at);
    attentionMask.fill(1, at, at + ids.length);
  });
  const tensor = (data: Int32Array) => Tensor.from(data, shape, device === undefined ? {} : { device });
  return { inputIds: tensor(inputIds), tokenTypeIds: tensor(tokenTypeIds), attentionMask: tensor(attentionMask) };
}
