import type { Format } from './format';
import { config, csv, jsonLines } from './texts';
import { sentencePiece, tokenizerJson } from './tokenizers';
import { rawPickle, torchArchive, torchLegacy } from './torch';
import { pickledVocabulary, wordList } from './vocabularies';
import { safetensors, shardIndex } from './weights';

/** Every kind of file that comes from outside; a new one is one line here. */
export const formats: Readonly<Record<string, Format>> = {
  safetensors,
  index: shardIndex,
  'torch-zip': torchArchive,
  'torch-legacy': torchLegacy,
  pickle: rawPickle,
  config,
  'tokenizer-json': tokenizerJson,
  spiece: sentencePiece,
  'vocab-txt': wordList,
  'vocab-pkl': pickledVocabulary,
  jsonl: jsonLines,
  csv,
};
