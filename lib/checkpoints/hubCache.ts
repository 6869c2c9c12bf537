/**
 * The cache of models that Python's huggingface_hub uses too:
 *
 *     models--<owner>--<name>/blobs/<hash>                      files by their contents
 *     models--<owner>--<name>/snapshots/<commit>/<file>         links to them
 *     models--<owner>--<name>/refs/<branch or tag>              the commit that it stood for when it was last asked for
 */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError, describe } from '../errors';
import { writeFileAtomically } from './atomicFile';
import { indexedFiles, weightFiles } from './weights';

/** What a tokenizer needs, in one of these files. */
export const vocabularyFiles = ['tokenizer.json', 'spiece.model', 'vocab.txt', 'vocab.bin', 'vocab.pkl'] as const;

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** A snapshot with a configuration and all its weights. */
export interface CachedSnapshot {
  directory: string;
  /** Whether a vocabulary is there as well. */
  hasVocabulary: boolean;
}

/** One repository in the cache. */
export class RepositoryCache {
  private readonly folder: string;

  /** @param repository owner/name, checked by the caller */
  constructor(cacheDir: string, repository: string) {
    this.folder = path.join(cacheDir, `models--${repository.replace('/', '--')}`);
  }

  snapshotFolder(commit: string): string {
    return path.join(this.folder, 'snapshots', commit);
  }

  blob(hash: string): string {
    return path.join(this.folder, 'blobs', hash);
  }

  /** What is there of a branch, tag or commit; null when something that every model needs is missing. */
  async find(revision: string): Promise<CachedSnapshot | null> {
    const commit = isCommit(revision) ? revision : await this.referenced(revision);
    if (commit === null) return null;
    const directory = this.snapshotFolder(commit);
    const has = (name: string) => isFile(path.join(directory, name));
    if (!(await has('config.json'))) return null;
    for (const name of weightFiles) {
      if (!(await has(name))) continue;
      const shards = name.endsWith('.json') ? await indexedFiles(path.join(directory, name)) : [];
      for (const shard of shards) if (!(await has(shard))) return null;
      return { directory, hasVocabulary: (await Promise.all(vocabularyFiles.map(has))).includes(true) };
    }
    return null;
  }

  /** Makes a blob appear in a snapshot. */
  async link(commit: string, name: string, hash: string): Promise<string> {
    const directory = this.snapshotFolder(commit);
    await fs.mkdir(directory, { recursive: true });
    const link = path.join(directory, name);
    const target = this.blob(hash);
    await fs.rm(link, { force: true });
    try {
      await fs.symlink(path.relative(directory, target), link);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Another process was quicker; or this file system has no links.
      if (code !== 'EEXIST') await fs.copyFile(target, link);
    }
    return link;
  }

  /** Remembers which commit a branch or tag stands for. Only of complete snapshots: what is cut short must not look like a model. */
  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const file = path.join(this.folder, 'refs', revision);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomically(file, commit);
  }

  private async referenced(revision: string): Promise<string | null> {
    try {
      const commit = (await fs.readFile(path.join(this.folder, 'refs', revision), 'utf8')).trim();
      return isCommit(commit) ? commit : null;
    } catch {
      return null;
    }
  }
}

/** A hub id; anything that could leave the cache folder is refused. */
export function isRepository(name: string): boolean {
  const part = '[A-Za-z0-9_](?:[A-Za-z0-9_]|[.-](?![.-])){0,95}';
  return new RegExp(`^${part}/${part}$`).test(name);
}

/** @throws XlformersError ERR_PATH for what could lead out of the folder of references */
export function checkedRevision(revision: string): string {
  if (
    typeof revision === 'string' &&
    /^[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}$/.test(revision) &&
    !/\.\.|\/\/|\/$/.test(revision)
  ) {
    return revision;
  }
  throw new XlformersError('ERR_PATH', `revision: got ${describe(revision)}, expected a branch, tag or commit`);
}

export async function isFile(name: string): Promise<boolean> {
  try {
    return (await fs.stat(name)).isFile();
  } catch {
    return false;
  }
}
