import { XlformersError } from '../errors';
import type { AddedToken } from './addedTokens';
import { JsonObject } from './jsonObject';
import type { WordVocabulary } from './wordVocabulary';

/** What tokenizer_config.json says beside a word vocabulary; defaults as `TransfoXLTokenizer` of transformers has them. */
export interface TransformerXLSettings {
  /** Default false. */
  lowerCase: boolean;
  /** Each character is a token (a delimiter of ''). Default false. */
  characters: boolean;
  /** Special tokens by what they are for: `eos` is '<eos>' and `unk` '<unk>' unless the file says otherwise. */
  roles: ReadonlyMap<string, string>;
  /** Special tokens without a role. Default `<formula>`. */
  additional: readonly string[];
  /** Further tokens by id, special or not. */
  added: readonly { id: number; content: string; special: boolean }[];
  /** Kept whole by Moses' rules, in any case of letters; null: the special tokens. */
  neverSplit: readonly string[] | null;
  cleanUpSpaces: boolean;
}

/** In the order in which transformers gives ids to those that the vocabulary lacks. */
const roleNames = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'];

/** @throws XlformersError ERR_TOKENIZER_FILE, ERR_TOKENIZER_UNSUPPORTED naming the field */
export function readTransformerXLSettings(text: string): TransformerXLSettings {
  const file = JsonObject.parse(text, 'tokenizer_config.json');
  const language = file.optionalString('language') ?? 'en';
  if (language !== 'en') throw unsupported(`language is '${language}'; Moses' rules are here for 'en'`);
  const neverSplit = file.optionalArray('never_split');
  neverSplit?.forEach((entry, index) => {
    // Python takes them for regular expressions.
    if (typeof entry !== 'string' || entry === '' || /[\\^$.|?*+()[\]{}]/.test(entry))
      throw unsupported(`never_split[${index}] is no plain text`);
  });
  const added = file.optionalObject('added_tokens_decoder')?.entries() ?? [];
  const defaults: Record<string, string> = { eos: '<eos>', unk: '<unk>' };
  return {
    lowerCase: file.boolean('lower_case', false),
    characters: file.optionalString('delimiter') === '',
    roles: new Map(
      roleNames.flatMap((role) => {
        const token = file.optionalToken(`${role}_token`) ?? defaults[role];
        return token === undefined ? [] : [[role, token] as const];
      }),
    ),
    additional: file
      .optionalArray('additional_special_tokens')
      ?.map((value, index) => JsonObject.token(value, `${file.path}.additional_special_tokens[${index}]`)) ?? [
      '<formula>',
    ],
    added: added.map(([id, value]) => {
      const entry = JsonObject.of(value, `${file.path}.added_tokens_decoder['${id}']`);
      if (entry.boolean('single_word', false)) throw unsupported(`${entry.path}: single_word`);
      return { id: Number(id), content: JsonObject.token(value, entry.path), special: entry.boolean('special', false) };
    }),
    neverSplit: (neverSplit as string[] | undefined) ?? null,
    cleanUpSpaces: file.boolean('clean_up_tokenization_spaces', false),
  };
}

/** tokenizer_config.json, as transformers writes and reads it. */
export function writeTransformerXLSettings(settings: TransformerXLSettings, tokens: readonly AddedToken[]): string {
  const flags = { lstrip: false, normalized: false, rstrip: false, single_word: false };
  const file = {
    added_tokens_decoder: Object.fromEntries(
      tokens.map(({ id, content, special }) => [id, { content, ...flags, special }]),
    ),
    additional_special_tokens: settings.additional,
    clean_up_tokenization_spaces: settings.cleanUpSpaces,
    delimiter: settings.characters ? '' : null,
    language: 'en',
    lower_case: settings.lowerCase,
    ...(settings.neverSplit === null ? {} : { never_split: settings.neverSplit }),
    ...Object.fromEntries([...settings.roles].map(([role, token]) => [`${role}_token`, token])),
    tokenizer_class: 'TransfoXLTokenizer',
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/**
 * The tokens that are found before words are: those of the settings, then special ones that the vocabulary lacks, with new ids. `pieces`
 * grows by what is new.
 * @throws XlformersError ERR_TOKENIZER_ID where an id does not fit the vocabulary
 */
export function addTokens(
  { added, roles, additional }: TransformerXLSettings,
  { idOf }: WordVocabulary,
  pieces: string[],
): AddedToken[] {
  const special = new Set([...roles.values(), ...additional]);
  const tokens = new Map<string, AddedToken>();
  const add = (content: string, given: number | null, isSpecial: boolean) => {
    if (tokens.has(content)) return;
    const known = idOf.get(content);
    const id = known ?? pieces.length;
    if (given !== null && given !== id) {
      throw new XlformersError(
        'ERR_TOKENIZER_ID',
        `tokenizer_config.json: added_tokens_decoder: '${content}' has id ${given}, expected ${id}`,
      );
    }
    if (known === undefined) pieces.push(content);
    const plain = { lstrip: false, rstrip: false, singleWord: false, normalized: false };
    tokens.set(content, { id, content, ...plain, special: isSpecial });
  };
  for (const { id, content, special: marked } of [...added].sort((a, b) => a.id - b.id)) {
    add(content, id, marked || special.has(content));
  }
  for (const content of special) add(content, null, true);
  return [...tokens.values()];
}

function unsupported(what: string): XlformersError {
  return new XlformersError('ERR_TOKENIZER_UNSUPPORTED', `tokenizer_config.json: ${what}`);
}
