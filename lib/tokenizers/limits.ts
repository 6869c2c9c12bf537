/**
 * Limits that keep the time to tokenize linear in the text and loading within reason. Real vocabularies are far below: XLNet's longest
 * piece has 16 characters, its file 0.8 MB.
 */
export const maxPieceLength = 512;
export const maxTokenizerFileBytes = 2 ** 25;
/** Log probabilities lie between -20 and 0; sums of larger ones would lose the smaller, or end at infinity. */
export const maxScore = 1e6;
/** UTF-16 units of one text. Tables and tokens take up to fifty bytes for each. */
export const maxTextLength = 2 ** 27;
/** What normalization may make of it: a character becomes up to 18, and more by the rules of a file. Strings end at 2^29. */
export const maxNormalizedLength = 2 ** 28;
/** Steps of normalization. XLNet's files have six. */
export const maxNormalizers = 32;
