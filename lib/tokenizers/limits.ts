/**
 * Limits that keep the time to tokenize linear in the text and loading within reason. Real vocabularies are far below: XLNet's longest
 * piece has 16 characters, its file 0.8 MB.
 */
export const maxPieceLength = 512;
export const maxTokenizerFileBytes = 2 ** 28;
