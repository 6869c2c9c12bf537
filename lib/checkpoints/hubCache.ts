/**
 * The cache of models that Python's huggingface_hub uses too:
 *
 *     models--<owner>--<name>/blobs/<hash>                      files by their contents
 *     models--<owner>--<name>/snapshots/<commit>/<file>         links to them
 *     models--<owner>--<name>/refs/<branch or tag>              the commit that it stood for when it was last asked for
 *     models--<owner>--<name>/.no_exist/<commit>/<file>         empty: the commit has no such file
 */
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError, describe } from '../errors';
import { temporaryName, writeFileAtomically } from './atomicFile';
import { type Wanted, isFile, missingFiles } from './hubContents';

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** The folder of a commit, as far as it is there. */
export interface CachedSnapshot {
  directory: string;
  /** What is needed and not there, in words; nothing where the folder will do. */
  missing: readonly string[];
  /** Whether it has all that the repository has of what is wanted: asking would not add to it. */
  complete: boolean;
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

  /** What is there of a branch, tag or commit; null when nobody knows which commit that is. */
  async find(revision: string, wanted: Wanted): Promise<CachedSnapshot | null> {
    const commit = isCommit(revision) ? revision : await this.referenced(revision);
    if (commit === null) return null;
    const directory = this.snapshotFolder(commit);
    const missing = await missingFiles(directory, wanted);
    return { directory, missing, complete: missing.length === 0 && (await this.knowsAll(commit, wanted)) };
  }

  /** Remembers files that a commit does not have. They need not be asked for again, which is all: where that cannot be kept, they are. */
  async markAbsent(commit: string, names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    try {
      await fs.mkdir(this.absentFolder(commit), { recursive: true });
      for (const name of names) await fs.writeFile(path.join(this.absentFolder(commit), name), '');
    } catch {
      // A cache that is only read.
    }
  }

  /** Makes a blob appear in a snapshot. */
  async link(commit: string, name: string, hash: string): Promise<string> {
    const directory = this.snapshotFolder(commit);
    await fs.mkdir(directory, { recursive: true });
    const link = path.join(directory, name);
    const target = this.blob(hash);
    // Whoever reads it meanwhile sees the old file or the new one.
    const temporary = temporaryName(link);
    try {
      await fs.symlink(path.relative(directory, target), temporary);
    } catch {
      // This file system has no links.
      await fs.copyFile(target, temporary);
    }
    await fs.rename(temporary, link);
    return link;
  }

  /** Remembers which commit a branch or tag stands for. Only when all that was wanted is there: what is cut short must not look whole. */
  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.referenced(revision)) === commit) return;
    const file = path.join(this.folder, 'refs', revision);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomically(file, commit);
  }

  private absentFolder(commit: string): string {
    return path.join(this.folder, '.no_exist', commit);
  }

  /** Whether each file that the repository may lack is there, or known to be absent, or replaced by one before it. */
  private async knowsAll(commit: string, { settings, vocabularies }: Wanted): Promise<boolean> {
    const isThere = (name: string) => isFile(path.join(this.snapshotFolder(commit), name));
    const isAbsent = (name: string) => isFile(path.join(this.absentFolder(commit), name));
    for (const names of [...settings.map((name) => [name]), ...vocabularies]) {
      for (const name of names) {
        if (await isThere(name)) break;
        if (!(await isAbsent(name))) return false;
      }
    }
    return true;
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
