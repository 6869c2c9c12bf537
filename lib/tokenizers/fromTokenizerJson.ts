import { XlformersError, describe } from '../errors';
import type { AddedToken } from './addedTokens';
import { CharTrie } from './charTrie';
import { CharsMap } from './charsMap';
import type { Template, TemplatePart } from './encoding';
import { JsonObject } from './jsonObject';
import { maxNormalizers, maxPieceLength, maxScore } from './limits';
import { MetaspacePipeline } from './metaspacePipeline';
import {
  type Normalizer,
  collapseSpaces,
  decomposeAndStripAccents,
  inOrder,
  lowercase,
  replaceLiteral,
  stripAccents,
} from './normalizers';
import { metaspace } from './pipeline';
import { graphemeRules } from './tableNormalizers';
import { Unigram } from './unigram';
import type { TokenizerParts } from './tokenizerParts';
import { idsOf, unsupported } from './xlnetParts';

/** How much less than the rarest piece an unknown character counts (unigram/model.rs, K_UNK_PENALTY). */
const unknownPenalty = 10;
const maxAddedTokens = 2 ** 16;

/**
 * A tokenizer with a unigram model from a `tokenizer.json`, as Hugging Face's `tokenizers` runs it.
 * @throws XlformersError ERR_TOKENIZER_FILE, ERR_TOKENIZER_UNSUPPORTED naming what is not run, ERR_TOKENIZER_ID
 */
export function partsFromTokenizerJson(text: string): TokenizerParts {
  const file = JsonObject.parse(text, 'tokenizer.json');
  const model = file.object('model');
  const type = model.optionalString('type') ?? 'Unigram';
  if (type !== 'Unigram') throw unsupported(`tokenizer.json has a model of type '${type}', expected 'Unigram'`);
  if (model.boolean('byte_fallback', false)) throw unsupported('tokenizer.json falls back to bytes');

  const vocabulary = model.array('vocab').map(readEntry);
  const pieces = vocabulary.map(([piece]) => piece);
  const idOf = idsOf(pieces);
  const unknownId = model.integer('unk_id', 0, pieces.length - 1);
  const addedTokens = readAddedTokens(file, pieces, idOf);
  const scores = Float64Array.from(vocabulary, ([, score]) => score);
  const trie = new CharTrie();
  vocabulary.forEach(([piece], id) => trie.set(piece, id));
  const unknownScore = scores.reduce((lowest, score) => Math.min(lowest, score), Infinity) - unknownPenalty;

  const pipeline = new MetaspacePipeline({
    ...readNormalizer(file),
    ...readPreTokenizer(file),
    unigram: new Unigram({ trie, scores, unknownId, unknownScore, float32: false }),
    unknownId,
    addedTokens,
    pieces,
  });
  return { pipeline, pieces, addedTokens, ...readTemplates(file, idOf), oddToFirst: false };
}

function readEntry(value: unknown, id: number): [piece: string, score: number] {
  const [piece, score] = Array.isArray(value) ? (value as unknown[]) : [];
  if (!isPiece(piece) || typeof score !== 'number' || !(Math.abs(score) <= maxScore)) {
    throw new XlformersError(
      'ERR_TOKENIZER_FILE',
      `tokenizer.json: model.vocab[${id}] is [${describe(piece)}, ${describe(score)}], expected [text, score]`,
    );
  }
  return [piece, score];
}

/** Text of moderate length without half characters. */
function isPiece(value: unknown): value is string {
  return typeof value === 'string' && value.length <= maxPieceLength && !/\p{Surrogate}/u.test(value);
}

/** Extends `pieces` and `idOf` by tokens that the model does not have. */
function readAddedTokens(file: JsonObject, pieces: string[], idOf: Map<string, number>): AddedToken[] {
  const list = file.array('added_tokens');
  if (list.length > maxAddedTokens) throw unsupported(`tokenizer.json has ${list.length} added tokens`);
  const seen = new Set<number>();
  return list.map((value, index) => {
    const entry = JsonObject.of(value, `tokenizer.json: added_tokens[${index}]`);
    const content = entry.string('content');
    if (!isPiece(content)) {
      throw unsupported(`${entry.path}: content ${describe(content)}, expected at most ${maxPieceLength} characters`);
    }
    const id = entry.integer('id', 0, 2 ** 31 - 1);
    const known = idOf.get(content);
    const fits = known === undefined ? id === pieces.length : id === known;
    if (content === '' || seen.has(id) || !fits) {
      throw new XlformersError(
        'ERR_TOKENIZER_ID',
        `${entry.path}: '${content}' has id ${id}, expected ${seen.has(id) ? 'every id once' : (known ?? pieces.length)}`,
      );
    }
    seen.add(id);
    if (known === undefined) {
      idOf.set(content, id);
      pieces.push(content);
    }
    const flag = (name: string) => entry.boolean(name, false);
    return {
      id,
      content,
      lstrip: flag('lstrip'),
      rstrip: flag('rstrip'),
      singleWord: flag('single_word'),
      normalized: flag('normalized'),
      special: flag('special'),
    };
  });
}

/** The steps of a Sequence, which may hold others; of a single step; of nothing. */
function steps(parent: JsonObject, name: string, listName: string): JsonObject[] {
  const entry = parent.optionalObject(name);
  if (entry === undefined) return [];
  if (entry.string('type') !== 'Sequence') return [entry];
  return entry.array(listName).map((value, index) => JsonObject.of(value, `${entry.path}.${listName}[${index}]`));
}

function readNormalizer(file: JsonObject): { normalizer: Normalizer; collapsesSpaces: boolean; separable: boolean } {
  const normalizers: Normalizer[] = [];
  let separable = true;
  const entries = steps(file, 'normalizer', 'normalizers');
  if (entries.length > maxNormalizers) throw unsupported(`tokenizer.json: ${entries.length} normalizers`);
  for (let index = 0; index < entries.length; index += 1) {
    const entry = entries[index] as JsonObject;
    const type = entry.string('type');
    // White space is cut before steps that might tell it apart, unless the last step has made one space of several.
    if (normalizers.includes(collapseSpaces)) separable = false;
    if (type === 'Replace') {
      const { normalizer, hasSpace } = readReplacement(entry);
      normalizers.push(normalizer);
      if (hasSpace) separable = false;
    } else if (type === 'NFKD') {
      // By itself it would have to sort marks; every XLNet file drops them at once.
      if (entries[index + 1]?.string('type') !== 'StripAccents')
        throw unsupported(`${entry.path}: NFKD without StripAccents`);
      normalizers.push(decomposeAndStripAccents);
      index += 1;
    } else if (type === 'StripAccents') normalizers.push(stripAccents);
    else if (type === 'Lowercase') normalizers.push(lowercase);
    else if (type === 'Precompiled') {
      const map = new CharsMap(Buffer.from(entry.string('precompiled_charsmap'), 'base64'));
      normalizers.push(graphemeRules(map));
      if (map.joinsSpaces) separable = false;
    } else throw unsupported(`${entry.path}: normalizer '${type}'`);
  }
  return { normalizer: inOrder(normalizers), collapsesSpaces: normalizers.at(-1) === collapseSpaces, separable };
}

/** Replacements are no longer than this: step after step they would make megabytes of a letter. */
const maxReplacement = 32;

/** Literal patterns, and the one regular expression of XLNet's files: an expression from a file could take for ever. */
function readReplacement(entry: JsonObject): { normalizer: Normalizer; hasSpace: boolean } {
  const pattern = entry.object('pattern');
  const content = entry.string('content');
  const literal = pattern.optionalString('String');
  if (literal !== undefined && literal !== '' && isPiece(literal) && content.length <= maxReplacement) {
    return { normalizer: replaceLiteral(literal, content), hasSpace: /\s/.test(literal) };
  }
  const expression = pattern.optionalString('Regex');
  if (expression === ' {2,}' && content === ' ') return { normalizer: collapseSpaces, hasSpace: false };
  throw unsupported(`${entry.path}: replaces ${describe(expression ?? literal)} by ${describe(content)}`);
}

function readPreTokenizer(file: JsonObject): { whitespaceSplit: boolean; prepend: boolean } {
  const entries = steps(file, 'pre_tokenizer', 'pretokenizers');
  const whitespaceSplit = entries[0]?.string('type') === 'WhitespaceSplit';
  const rest = entries.slice(whitespaceSplit ? 1 : 0);
  const [entry] = rest;
  if (entry === undefined || rest.length > 1 || entry.string('type') !== 'Metaspace') {
    const names = entries.map((given) => given.string('type')).join(', ');
    throw unsupported(`tokenizer.json: pre_tokenizer [${names}], expected Metaspace, or WhitespaceSplit and Metaspace`);
  }
  const scheme =
    entry.optionalString('prepend_scheme') ?? (entry.boolean('add_prefix_space', true) ? 'always' : 'never');
  if (scheme !== 'always' && scheme !== 'never') throw unsupported(`${entry.path}: prepend_scheme '${scheme}'`);
  if (entry.string('replacement') !== metaspace)
    throw unsupported(`${entry.path}: replacement ${entry.string('replacement')}`);
  if (!entry.boolean('split', true)) throw unsupported(`${entry.path}: split false`);
  return { whitespaceSplit, prepend: scheme === 'always' };
}

function readTemplates(file: JsonObject, idOf: ReadonlyMap<string, number>): { single: Template; pair: Template } {
  const entry = file.optionalObject('post_processor');
  if (entry === undefined) {
    const first = { sequence: 0, typeId: 0 } as const;
    return { single: [first], pair: [first, { sequence: 1, typeId: 0 }] };
  }
  if (entry.string('type') !== 'TemplateProcessing') throw unsupported(`${entry.path}: '${entry.string('type')}'`);
  const read = (name: string, sequences: readonly string[]): Template => {
    const parts = entry.array(name).map((value, index): TemplatePart => {
      const part = JsonObject.of(value, `${entry.path}.${name}[${index}]`);
      const special = part.optionalObject('SpecialToken');
      const body = special ?? part.object('Sequence');
      const typeId = body.integer('type_id', 0, 2 ** 31 - 1);
      if (special === undefined) return { sequence: body.string('id') === 'A' ? 0 : 1, typeId };
      const id = idOf.get(body.string('id'));
      if (id === undefined)
        throw new XlformersError('ERR_TOKENIZER_ID', `${body.path}: '${body.string('id')}' is in no vocabulary`);
      return { id, typeId };
    });
    const used = parts.flatMap((part) => ('sequence' in part ? ['AB'[part.sequence]] : []));
    if (used.sort().join() !== sequences.join()) throw unsupported(`${entry.path}.${name}: expected each text once`);
    return parts;
  };
  return { single: read('single', ['A']), pair: read('pair', ['A', 'B']) };
}
