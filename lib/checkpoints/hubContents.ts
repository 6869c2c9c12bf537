/** Which of a repository's files a load takes, and which of them a folder has. */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { indexedFiles, weightFiles } from './weights';

/** What a load takes of a repository. */
export interface Wanted {
  /** config.json and weights, without which there is no model: one file of the first format that is there, or its index and shards. */
  weights: boolean;
  /** Small files that come along where the repository has them. */
  settings: readonly string[];
  /** Of each list, the first file that the repository has. */
  vocabularies: readonly (readonly string[])[];
  /** Without any vocabulary it is an error, unless this says of the folder that it needs none. Absent: it needs none. */
  needsVocabulary?: (directory: string) => Promise<boolean>;
}

/** A model without its tokenizer. */
export const modelFiles: Wanted = { weights: true, settings: [], vocabularies: [] };

/** All that this package reads of a model and its tokenizer, whichever that is. */
export const allFiles: Wanted = {
  weights: true,
  settings: ['config.json', 'tokenizer_config.json', 'special_tokens_map.json'],
  vocabularies: [['tokenizer.json'], ['spiece.model'], ['vocab.txt'], ['vocab.bin'], ['vocab.pkl']],
};

/** The files of one tokenizer, whose vocabulary is in the first of these that is there. */
export function tokenizerFiles(vocabulary: readonly string[]): Wanted {
  return {
    weights: false,
    settings: ['tokenizer_config.json'],
    vocabularies: [vocabulary],
    needsVocabulary: () => Promise.resolve(true),
  };
}

/** Files that a repository may lack. */
export const optionalFiles = ({ settings, vocabularies }: Wanted): string[] => [...settings, ...vocabularies.flat()];

/** What a folder lacks without which the load cannot be, in words; nothing when it will do. */
export async function missingFiles(directory: string, wanted: Wanted): Promise<string[]> {
  const has = (name: string) => isFile(path.join(directory, name));
  const missing: string[] = [];
  if (wanted.weights) {
    if (!(await has('config.json'))) missing.push('config.json');
    const weights = await firstOf(weightFiles, has);
    if (weights === undefined) missing.push(alternatives(weightFiles));
    else if (weights.endsWith('.json')) {
      for (const shard of await indexedFiles(path.join(directory, weights))) {
        if (!(await has(shard))) missing.push(shard);
      }
    }
  }
  const names = wanted.vocabularies.flat();
  if (
    wanted.needsVocabulary &&
    (await firstOf(names, has)) === undefined &&
    (await wanted.needsVocabulary(directory))
  ) {
    missing.push(alternatives(names));
  }
  return missing;
}

/** "a, b or c" */
export function alternatives(names: readonly string[]): string {
  return names.join(', ').replace(/, ([^,]*)$/, ' or $1');
}

export async function firstOf<Name extends string>(
  names: readonly Name[],
  holds: (name: Name) => Promise<boolean>,
): Promise<Name | undefined> {
  for (const name of names) if (await holds(name)) return name;
  return undefined;
}

export async function isFile(name: string): Promise<boolean> {
  try {
    return (await fs.stat(name)).isFile();
  } catch {
    return false;
  }
}
