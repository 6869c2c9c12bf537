/**
 * Models by name: folders as they are, hub ids through the cache that Python's huggingface_hub uses too, and through the optional
 * package `@huggingface/hub` where something is missing. What comes from the network is checked against the hub's checksums.
 */
import { hubCacheDirectory, hubEndpoint, hubOffline, hubToken } from '../env';
import { XlformersError, describe } from '../errors';
import { RepositoryCache, checkedRevision, isCommit, isRepository } from './hubCache';
import { type Wanted, allFiles } from './hubContents';
import { type DownloadProgress, type HubClient, NetworkFailure, downloadSnapshot, reason } from './hubDownload';
import { isDirectory } from './readFile';

export type { DownloadProgress } from './hubDownload';

export interface HubOptions {
  /** Branch, tag or commit. Default 'main'. */
  revision?: string;
  /** Only what is in the cache already. Default: HF_HUB_OFFLINE. */
  localFilesOnly?: boolean;
  /** Default: HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
  cacheDir?: string;
  /** Default: HF_TOKEN. Sent to the hub only, never to the servers that it redirects to. */
  token?: string;
  onProgress?: (progress: DownloadProgress) => void;
  signal?: AbortSignal;
}

/** The names of the original publications. */
const shortNames: Record<string, string> = {
  'transformer-xl': 'transfo-xl/transfo-xl-wt103',
  xlnet: 'xlnet/xlnet-base-cased',
  'xlnet-base-cased': 'xlnet/xlnet-base-cased',
  'xlnet-large-cased': 'xlnet/xlnet-large-cased',
  'transfo-xl-wt103': 'transfo-xl/transfo-xl-wt103',
};

/**
 * The folder of a model, its weights and tokenizer downloaded where needed.
 * @param nameOrPath a folder, a hub id (`xlnet/xlnet-base-cased`) or a short name (`xlnet`, `transformer-xl`)
 * @throws XlformersError ERR_FILE_NOT_FOUND, ERR_PATH, ERR_NETWORK saying what to do; the signal's reason when aborted
 */
export function resolveModel(nameOrPath: string, options: HubOptions = {}, client?: HubClient): Promise<string> {
  return resolveFiles(nameOrPath, allFiles, options, client);
}

/** @internal The same with the files that one load takes. */
export async function resolveFiles(
  nameOrPath: string,
  wanted: Wanted,
  options: HubOptions = {},
  client?: HubClient,
): Promise<string> {
  if (typeof nameOrPath !== 'string' || nameOrPath === '') {
    throw new XlformersError('ERR_ARG_TYPE', `model: got ${describe(nameOrPath)}, expected a folder or a hub id`);
  }
  if (await isDirectory(nameOrPath)) return nameOrPath;
  const repository = repositoryOf(nameOrPath);
  const revision = checkedRevision(options.revision ?? 'main');
  const cacheDir = options.cacheDir ?? hubCacheDirectory();
  const cache = new RepositoryCache(cacheDir, repository);
  const cached = await cache.find(revision, wanted);
  const usable = cached?.missing.length === 0 ? cached.directory : null;
  if (options.localFilesOnly ?? hubOffline()) {
    if (usable !== null) return usable;
    const there = cached !== null && (await isDirectory(cached.directory));
    const problem = there
      ? `${cached.directory}: lacks ${cached.missing.join(', ')}`
      : `${repository}: not in the cache ${cacheDir}`;
    throw new XlformersError(
      'ERR_FILE_NOT_FOUND',
      `${problem} (revision ${revision}), and downloads are off; run once without localFilesOnly (--offline) and HF_HUB_OFFLINE`,
    );
  }
  // A commit never changes.
  if (cached?.complete && isCommit(revision)) return cached.directory;
  try {
    return await downloadSnapshot({
      repository,
      revision,
      wanted,
      cache,
      client: client ?? (await loadClient(repository)),
      hubUrl: hubEndpoint(),
      token: options.token ?? hubToken() ?? undefined,
      onProgress: options.onProgress,
      signal: options.signal,
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    const failure = explained(error, repository, revision);
    // Without a network, what was downloaded before is as good as it gets.
    if (usable !== null && (failure instanceof NetworkFailure || failure.code === 'ERR_UNSUPPORTED')) return usable;
    throw failure;
  }
}

/** A hub id; anything that could leave the cache folder is refused. */
function repositoryOf(name: string): string {
  const repository = Object.hasOwn(shortNames, name) ? (shortNames[name] as string) : name;
  if (isRepository(repository)) return repository;
  const looksLikePath = /^[./~\\]|^[A-Za-z]:|[\\]|\/.*\//.test(name);
  throw new XlformersError(
    looksLikePath && !name.includes('..') ? 'ERR_FILE_NOT_FOUND' : 'ERR_PATH',
    `${describe(name)} is neither a folder nor a hub id like 'xlnet/xlnet-base-cased'; ` +
      `short names are ${Object.keys(shortNames).join(', ')}`,
  );
}

/** The package is optional: it is looked for when a download is wanted. */
async function loadClient(repository: string): Promise<HubClient> {
  const name: string = '@huggingface/hub';
  try {
    return (await import(name)) as HubClient;
  } catch (error) {
    throw new XlformersError(
      'ERR_UNSUPPORTED',
      `${repository} is not in the cache, and downloading needs the package @huggingface/hub: ` +
        "run 'npm install @huggingface/hub', or give a folder",
      { cause: error },
    );
  }
}

/** What a failed download means. The package's errors carry the answer's status. */
function explained(error: unknown, repository: string, revision: string): XlformersError {
  if (error instanceof XlformersError && !(error instanceof NetworkFailure)) return error;
  const source = error instanceof NetworkFailure ? error.cause : error;
  const { statusCode } = (source ?? {}) as { statusCode?: unknown };
  const options = { cause: error };
  if (statusCode === 404) {
    const message = `${repository}: the hub has no such model, or no revision '${revision}' of it`;
    return new XlformersError('ERR_FILE_NOT_FOUND', message, options);
  }
  if (statusCode === 401 || statusCode === 403) {
    const message = `${repository}: the hub lets only some read it, or has no such model: give 'token' or set HF_TOKEN`;
    return new XlformersError('ERR_NETWORK', message, options);
  }
  return new NetworkFailure(`${repository}: download failed: ${reason(error)}`, options);
}
