/**
 * Downloads from the hub into the cache. The package `@huggingface/hub` asks the questions; files are written here, so that a name
 * appears in the cache only when all its bytes are there and have the hash that the hub lists.
 */
import { createHash } from 'node:crypto';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { XlformersError, describe } from '../errors';
import { writeAtomically } from './atomicFile';
import { type RepositoryCache, isCommit } from './hubCache';
import { type Wanted, firstOf, isFile, missingFiles, optionalFiles } from './hubContents';
import { indexedFiles, weightFiles } from './weights';

export interface DownloadProgress {
  file: string;
  loadedBytes: number;
  totalBytes: number;
}

/** @internal What is used of `@huggingface/hub`. */
export interface HubClient {
  modelInfo(params: Record<string, unknown>): Promise<{ sha?: unknown }>;
  pathsInfo(params: Record<string, unknown>): Promise<HubFile[]>;
  downloadFile(params: Record<string, unknown>): Promise<Blob | null>;
}

/** @internal */
export interface HubFile {
  type: string;
  path: string;
  size: number;
  /** Git's hash of the file, or of its pointer. */
  oid?: string;
  /** Of large files: SHA-256. */
  lfs?: { oid: string; size: number };
}

export interface DownloadRequest {
  repository: string;
  revision: string;
  wanted: Wanted;
  cache: RepositoryCache;
  client: HubClient;
  hubUrl: string;
  token: string | undefined;
  onProgress: ((progress: DownloadProgress) => void) | undefined;
  signal: AbortSignal | undefined;
}

/**
 * Downloads what is wanted and not in the cache yet.
 * @returns the snapshot's folder
 * @throws XlformersError ERR_FILE_NOT_FOUND, ERR_PATH, ERR_NETWORK; whatever the network throws
 */
export async function downloadSnapshot(request: DownloadRequest): Promise<string> {
  const { repository, revision, wanted, cache, client, hubUrl, token, signal } = request;
  const access = {
    hubUrl,
    fetch: guardedFetch(hubUrl, signal),
    ...(token === undefined ? {} : { accessToken: token }),
  };
  const { sha } = await client.modelInfo({ ...access, name: repository, revision, additionalFields: ['sha'] });
  if (typeof sha !== 'string' || !isCommit(sha)) {
    throw new XlformersError('ERR_NETWORK', `${repository}: the hub says its commit is ${describe(sha)}`);
  }
  // One commit from here on: a push in between must not mix two models.
  const shared = { ...access, repo: { type: 'model', name: repository }, revision: sha };
  const list = async (paths: readonly string[]): Promise<Map<string, HubFile>> => {
    const found = await client.pathsInfo({ ...shared, paths });
    const files = found.filter(({ type, path: name }) => type === 'file' && paths.includes(name));
    return new Map(files.map((file) => [file.path, file]));
  };
  const fetchFile = async (file: HubFile): Promise<string> => {
    const blob = () => client.downloadFile({ ...shared, path: file.path, xet: false });
    return storeFile(request, sha, file, blob);
  };

  const directory = cache.snapshotFolder(sha);
  const optional = optionalFiles(wanted);
  const files = await list([...new Set([...optional, ...(wanted.weights ? ['config.json', ...weightFiles] : [])])]);
  const weights = wanted.weights ? await chosenWeights(directory, files) : undefined;
  if (wanted.weights && (!files.has('config.json') || weights === undefined)) {
    throw new XlformersError(
      'ERR_FILE_NOT_FOUND',
      `${repository}: the repository lacks config.json or weights; looked for ${weightFiles.join(', ')}`,
    );
  }
  const vocabularies = wanted.vocabularies.flatMap((names) => names.find((name) => files.has(name)) ?? []);
  // The largest last: where they are, everything is.
  const small = new Set([...(wanted.weights ? ['config.json'] : []), ...wanted.settings, ...vocabularies]);
  for (const name of small) if (files.has(name)) await fetchFile(files.get(name) as HubFile);
  if (weights !== undefined) {
    const local = await fetchFile(files.get(weights) as HubFile);
    const shards = weights.endsWith('.json') ? await indexedFiles(local) : [];
    const listed = shards.length > 0 ? await list(shards) : new Map<string, HubFile>();
    for (const name of shards) {
      const shard = listed.get(name);
      if (!shard) {
        throw new XlformersError(
          'ERR_CHECKPOINT_INDEX',
          `${repository}: has no file '${name}', which ${weights} names`,
        );
      }
      await fetchFile(shard);
    }
  }
  const missing = await missingFiles(directory, wanted);
  if (missing.length > 0) {
    throw new XlformersError('ERR_FILE_NOT_FOUND', `${repository}: the repository has no ${missing.join(', no ')}`);
  }
  await cache.remember(revision, sha);
  await cache.markAbsent(
    sha,
    optional.filter((name) => !files.has(name)),
  );
  return directory;
}

/** One format is enough: what is there already, else the first that the repository has. */
async function chosenWeights(directory: string, files: ReadonlyMap<string, HubFile>): Promise<string | undefined> {
  const offered = weightFiles.filter((name) => files.has(name));
  return (await firstOf(offered, (name) => isFile(path.join(directory, name)))) ?? offered[0];
}

/** One file into the cache, unless it is there. */
async function storeFile(
  { repository, cache, onProgress, signal }: DownloadRequest,
  commit: string,
  file: HubFile,
  download: () => Promise<Blob | null>,
): Promise<string> {
  signal?.throwIfAborted();
  const { hash, size, algorithm, prefix } = identity(repository, file);
  const report = (loadedBytes: number) => onProgress?.({ file: file.path, loadedBytes, totalBytes: size });
  const link = path.join(cache.snapshotFolder(commit), file.path);
  const target = cache.blob(hash);
  report(0);
  // What has its name has its hash: it was checked before it got there.
  if ((await sizeOf(link)) === size) {
    report(size);
    return link;
  }
  if ((await sizeOf(target)) !== size) {
    await fs.mkdir(path.dirname(target), { recursive: true });
    await writeAtomically(target, async (handle) => {
      const digest = createHash(algorithm).update(prefix);
      let loaded = 0;
      for await (const chunk of chunks(size === 0 ? () => Promise.resolve(new Blob([])) : download)) {
        signal?.throwIfAborted();
        loaded += chunk.byteLength;
        if (loaded > size) break;
        digest.update(chunk);
        await handle.writeFile(chunk);
        report(loaded);
      }
      const actual = digest.digest('hex');
      if (loaded === size && actual === hash) return;
      throw new XlformersError(
        'ERR_NETWORK',
        `${repository}: ${file.path}: got ${loaded > size ? 'more than ' : ''}${Math.min(loaded, size)} bytes with ${algorithm} ${actual}, ` +
          `expected ${size} with ${hash}: the download was damaged and is removed; try again`,
      );
    });
  }
  report(size);
  return cache.link(commit, file.path, hash);
}

async function sizeOf(name: string): Promise<number | null> {
  return (await isFile(name)) ? (await fs.stat(name)).size : null;
}

/** The hash under which a file is kept: SHA-256 of large files, git's of others. It becomes a file name, so it is checked. */
function identity(
  repository: string,
  { path: name, size, oid, lfs }: HubFile,
): { hash: string; size: number; algorithm: 'sha256' | 'sha1'; prefix: string } {
  const hash = lfs ? lfs.oid.replace(/^sha256:/, '') : oid;
  const bytes = lfs ? lfs.size : size;
  const expected = lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/;
  if (typeof hash !== 'string' || !expected.test(hash) || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw new XlformersError(
      'ERR_NETWORK',
      `${repository}: ${name}: the hub lists hash ${describe(hash)}, size ${bytes}`,
    );
  }
  return lfs
    ? { hash, size: bytes, algorithm: 'sha256', prefix: '' }
    : { hash, size: bytes, algorithm: 'sha1', prefix: `blob ${bytes}\0` };
}

/** The bytes of a body as they come. */
async function* chunks(download: () => Promise<Blob | null>): AsyncGenerator<Uint8Array> {
  try {
    const blob = await download();
    if (!blob) throw new Error('the hub has no such file');
    yield* blob.stream() as unknown as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw new NetworkFailure(reason(error), { cause: error });
  }
}

/** The network's part in a failure, for which what is in the cache is as good as it gets. */
export class NetworkFailure extends XlformersError {
  constructor(message: string, options?: ErrorOptions) {
    super('ERR_NETWORK', message, options);
  }
}

/** What went wrong, with the cause that `fetch` hides behind "fetch failed". Streams may fail with a mere string. */
export function reason(error: unknown): string {
  const { message, cause } = (error ?? {}) as { message?: unknown; cause?: unknown };
  if (typeof message !== 'string') return String(error);
  return cause === undefined ? message : `${message}: ${reason(cause)}`;
}

/** `fetch` that gives the token to nobody but the hub, and stops with the signal. */
function guardedFetch(hubUrl: string, signal: AbortSignal | undefined): typeof fetch {
  const { origin } = new URL(hubUrl);
  return (input, init) => {
    const address = input instanceof Request ? input.url : input;
    const headers = new Headers(init?.headers);
    if (new URL(address).origin !== origin) headers.delete('authorization');
    return fetch(input, { ...init, headers, signal: signal ?? null });
  };
}
