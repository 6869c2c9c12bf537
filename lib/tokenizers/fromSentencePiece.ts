import type { AddedToken } from './addedTokens';
import { CharTrie } from './charTrie';
import { CharsMap } from './charsMap';
import { type Normalizer, decomposeAndDropCombining, inOrder, lowercase, replaceLiteral } from './normalizers';
import { metaspace } from './pipeline';
import { SentencePiecePipeline } from './sentencePiecePipeline';
import { PieceType, type SentencePieceModel, parseSentencePieceModel } from './sentencePieceModel';
import { longestRules } from './tableNormalizers';
import { Unigram } from './unigram';
import type { TokenizerParts } from './tokenizerParts';
import { idsOf, unsupported, xlnetTemplates } from './xlnetParts';

/** What Hugging Face keeps in tokenizer_config.json beside a spiece.model. */
export interface SentencePieceSettings {
  /** Default false. */
  lowerCase?: boolean;
  /** Default false: accents are dropped. */
  keepAccents?: boolean;
  /** Default true: white space of any kind and length counts as one space. */
  removeSpace?: boolean;
}

/** The tokens that XLNet's Python tokenizer finds in the text itself. */
const specialTokens = ['<unk>', '<s>', '</s>', '<cls>', '<sep>', '<pad>', '<mask>', '<eod>', '<eop>'];

/** How much less than the rarest piece an unknown character counts (unigram_model.cc, kUnkPenalty). */
const unknownPenalty = 10;

/**
 * XLNet's tokenizer from a `spiece.model`, as `XLNetTokenizer` of transformers runs it.
 * @throws XlformersError ERR_TOKENIZER_PROTO, ERR_TOKENIZER_UNSUPPORTED, ERR_TOKENIZER_ID
 */
export function partsFromSentencePiece(bytes: Uint8Array, settings: SentencePieceSettings = {}): TokenizerParts {
  const model = parseSentencePieceModel(bytes);
  refuseForeign(model);
  const pieces = model.pieces.map(({ text }) => text);
  const idOf = idsOf(pieces);
  const addedTokens = specialTokens.map((content): AddedToken => {
    const id = idOf.get(content);
    if (id === undefined) throw unsupported(`spiece.model has no piece '${content}'`);
    return { id, content, lstrip: false, rstrip: false, singleWord: false, normalized: false, special: true };
  });
  const unknownId = model.pieces.findIndex(({ type }) => type === PieceType.unknown);
  if (unknownId < 0) throw unsupported('spiece.model has no piece for unknown characters');

  const { unigram, symbols } = buildUnigram(model, unknownId);
  const map = model.charsMap.length > 0 ? new CharsMap(model.charsMap) : undefined;
  const pipeline = new SentencePiecePipeline({
    normalizer: textNormalizer(settings, map, symbols),
    removeSpace: settings.removeSpace ?? true,
    separable: !map?.joinsSpaces && idOf.has(metaspace) && !pieces.some((piece) => piece.includes(metaspace, 1)),
    unigram,
    unknownId,
    addedTokens,
    pieces,
    idOf,
  });
  const templates = xlnetTemplates(idOf.get('<sep>') as number, idOf.get('<cls>') as number);
  return { pipeline, pieces, addedTokens, ...templates, oddToFirst: true };
}

function refuseForeign(model: SentencePieceModel): void {
  if (model.modelType !== 1) throw unsupported(`spiece.model has model type ${model.modelType}, expected 1 (unigram)`);
  if (model.byteFallback) throw unsupported('spiece.model falls back to bytes');
  const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces, whitespaceAsSuffix } = model;
  if (!addDummyPrefix || !removeExtraWhitespaces || !escapeWhitespaces || whitespaceAsSuffix) {
    throw unsupported('spiece.model treats spaces in another way');
  }
}

/** `XLNetTokenizer.preprocess_text`, then SentencePiece's own normalization. */
function textNormalizer(
  { lowerCase = false, keepAccents = false }: SentencePieceSettings,
  map: CharsMap | undefined,
  symbols: CharTrie,
): Normalizer {
  const steps = [replaceLiteral('``', '"'), replaceLiteral("''", '"')];
  if (!keepAccents) steps.push(decomposeAndDropCombining);
  if (lowerCase) steps.push(lowercase);
  if (map !== undefined) steps.push(longestRules(map, symbols));
  return inOrder(steps);
}

function buildUnigram(model: SentencePieceModel, unknownId: number): { unigram: Unigram; symbols: CharTrie } {
  const trie = new CharTrie();
  const symbols = new CharTrie();
  const scores = new Float64Array(model.pieces.length);
  let lowest = Infinity;
  model.pieces.forEach(({ text, score, type }, id) => {
    scores[id] = score;
    if (type === PieceType.normal) lowest = Math.min(lowest, score);
    if (type === PieceType.userDefined) {
      symbols.set(text, id);
      // Better than ordinary pieces, whose scores are logarithms of probabilities (unigram_model.cc, GetUserDefinedScore).
      scores[id] = Math.fround(0.1 * (Buffer.byteLength(text) - 1));
    }
    if (type === PieceType.normal || type === PieceType.userDefined) trie.set(text, id);
  });
  if (lowest === Infinity) throw unsupported('spiece.model has no ordinary pieces');
  const unknownScore = Math.fround(lowest - unknownPenalty);
  return { unigram: new Unigram({ trie, scores, unknownId, unknownScore, float32: true }), symbols };
}
