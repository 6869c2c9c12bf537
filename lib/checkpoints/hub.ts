/**
 * Models by name: folders as they are, hub ids through the cache that Python's huggingface_hub uses too, and through the optional
 * package `@huggingface/hub` where something is missing. What comes from the network is checked against the hub's checksums.
 */
import { createHash } from 'node:crypto';
import { createReadStream, promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { hubCacheDirectory, hubEndpoint, hubOffline, hubToken } from '../env';
import { XlformersError, describe } from '../errors';
import { isDirectory } from './readFile';
import { weightFiles } from './weights';

export interface HubOptions {
  /** Branch, tag or commit. Default 'main'. */
  revision?: string;
  /** Only what is in the cache already. Default: HF_HUB_OFFLINE. */
  localFilesOnly?: boolean;
  /** Default: HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
  cacheDir?: string;
  /** Default: HF_TOKEN. */
  token?: string;
  onProgress?: (progress: DownloadProgress) => void;
  signal?: AbortSignal;
}

export interface DownloadProgress {
  file: string;
  loadedBytes: number;
  totalBytes: number;
}

/** @internal What is used of `@huggingface/hub`. */
export interface HubClient {
  listFiles(params: Record<string, unknown>): AsyncIterable<HubFile>;
  downloadFileToCacheDir(params: Record<string, unknown>): Promise<string>;
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

/** The names of the original publications. */
const shortNames: Record<string, string> = {
  'transformer-xl': 'transfo-xl/transfo-xl-wt103',
  xlnet: 'xlnet/xlnet-base-cased',
  'xlnet-base-cased': 'xlnet/xlnet-base-cased',
  'xlnet-large-cased': 'xlnet/xlnet-large-cased',
  'transfo-xl-wt103': 'transfo-xl/transfo-xl-wt103',
};

/** What a model needs beside its weights; all but config.json are optional. */
const otherFiles = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'spiece.model',
  'vocab.txt',
  'vocab.bin',
  'vocab.pkl',
];

/**
 * The folder of a model, downloaded where needed.
 * @param nameOrPath a folder, a hub id (`xlnet/xlnet-base-cased`) or a short name (`xlnet`, `transformer-xl`)
 * @throws XlformersError ERR_FILE_NOT_FOUND, ERR_PATH, ERR_NETWORK saying what to do; the signal's reason when aborted
 */
export async function resolveModel(nameOrPath: string, options: HubOptions = {}, client?: HubClient): Promise<string> {
  if (typeof nameOrPath !== 'string' || nameOrPath === '') {
    throw new XlformersError('ERR_ARG_TYPE', `model: got ${describe(nameOrPath)}, expected a folder or a hub id`);
  }
  if (await isDirectory(nameOrPath)) return nameOrPath;
  const repository = repositoryOf(nameOrPath);
  const revision = checkedRevision(options.revision ?? 'main');
  const cacheDir = options.cacheDir ?? hubCacheDirectory() ?? path.join(os.homedir(), '.cache', 'huggingface', 'hub');
  const cached = await cachedSnapshot(cacheDir, repository, revision);
  if (options.localFilesOnly ?? hubOffline()) {
    if (cached) return cached;
    throw new XlformersError(
      'ERR_FILE_NOT_FOUND',
      `${repository}: not in the cache ${cacheDir} (revision ${revision}), and downloads are off; ` +
        'run once without localFilesOnly (--offline) and HF_HUB_OFFLINE',
    );
  }
  // A commit never changes.
  if (cached && isCommit(revision)) return cached;
  try {
    return await download(repository, revision, cacheDir, options, client ?? (await loadClient(repository)));
  } catch (error) {
    options.signal?.throwIfAborted();
    // Without a network, what was downloaded before is as good as it gets.
    if (cached && !(error instanceof XlformersError && error.code === 'ERR_PATH')) return cached;
    if (error instanceof XlformersError) throw error;
    throw new XlformersError('ERR_NETWORK', `${repository}: download failed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** A hub id; anything that could leave the cache folder is refused. */
function repositoryOf(name: string): string {
  const repository = shortNames[name] ?? name;
  const part = '[A-Za-z0-9_](?:[A-Za-z0-9_]|[.-](?![.-])){0,95}';
  if (new RegExp(`^${part}/${part}$`).test(repository)) return repository;
  const looksLikePath = /^[./~\\]|^[A-Za-z]:|[\\]|\/.*\//.test(name);
  throw new XlformersError(
    looksLikePath && !name.includes('..') ? 'ERR_FILE_NOT_FOUND' : 'ERR_PATH',
    `${describe(name)} is neither a folder nor a hub id like 'xlnet/xlnet-base-cased'; ` +
      `short names are ${Object.keys(shortNames).join(', ')}`,
  );
}

function checkedRevision(revision: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}$/.test(revision) && !revision.includes('..')) return revision;
  throw new XlformersError('ERR_PATH', `revision: got ${describe(revision)}, expected a branch, tag or commit`);
}

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

/** A snapshot that has a configuration and weights; null where there is none. */
async function cachedSnapshot(cacheDir: string, repository: string, revision: string): Promise<string | null> {
  const folder = path.join(cacheDir, `models--${repository.replace('/', '--')}`);
  let commit = revision;
  if (!isCommit(revision)) {
    try {
      commit = (await fs.readFile(path.join(folder, 'refs', revision), 'utf8')).trim();
    } catch {
      return null;
    }
    if (!isCommit(commit)) return null;
  }
  const snapshot = path.join(folder, 'snapshots', commit);
  const has = (name: string) => isFile(path.join(snapshot, name));
  if (!(await has('config.json'))) return null;
  for (const name of weightFiles) if (await has(name)) return snapshot;
  return null;
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

async function download(
  repository: string,
  revision: string,
  cacheDir: string,
  { token = hubToken() ?? undefined, onProgress, signal }: HubOptions,
  client: HubClient,
): Promise<string> {
  const shared = {
    repo: { type: 'model', name: repository },
    revision,
    ...(token === undefined ? {} : { accessToken: token }),
    ...(hubEndpoint() === null ? {} : { hubUrl: hubEndpoint() }),
  };
  const files = new Map<string, HubFile>();
  const plainFetch: typeof fetch = (input, init) => fetch(input, { ...init, signal: signal ?? null });
  for await (const file of client.listFiles({ ...shared, fetch: plainFetch })) {
    signal?.throwIfAborted();
    if (file.type === 'file') files.set(file.path, file);
  }
  const wanted = await wantedFiles(files, async (name) => {
    const local = await client.downloadFileToCacheDir({ ...shared, path: name, cacheDir, fetch: plainFetch });
    return JSON.parse(await fs.readFile(local, 'utf8')) as unknown;
  });
  let folder = '';
  for (const name of wanted) {
    signal?.throwIfAborted();
    const file = files.get(name);
    if (!file) throw new XlformersError('ERR_NETWORK', `${repository}: has no file '${name}', which its index names`);
    const totalBytes = file.lfs?.size ?? file.size;
    const report = (loadedBytes: number) => onProgress?.({ file: name, loadedBytes, totalBytes });
    report(0);
    const local = await client.downloadFileToCacheDir({
      ...shared,
      path: name,
      cacheDir,
      fetch: countingFetch(plainFetch, report),
    });
    await verify(local, file);
    report(totalBytes);
    folder = path.dirname(local);
  }
  return folder;
}

/** Configuration, tokenizer, and the first kind of weights that the repository has. */
async function wantedFiles(
  files: ReadonlyMap<string, HubFile>,
  readJson: (name: string) => Promise<unknown>,
): Promise<string[]> {
  const weights = weightFiles.find((name) => files.has(name));
  if (!files.has('config.json') || weights === undefined) {
    throw new XlformersError(
      'ERR_FILE_NOT_FOUND',
      `the repository lacks config.json or weights; looked for ${weightFiles.join(', ')}`,
    );
  }
  const wanted = otherFiles.filter((name) => files.has(name));
  if (!weights.endsWith('.json')) return [...wanted, weights];
  const index = (await readJson(weights)) as { weight_map?: Record<string, unknown> } | null;
  const shards = new Set(Object.values(index?.weight_map ?? {}));
  for (const shard of shards) {
    if (typeof shard !== 'string' || !/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(shard)) {
      throw new XlformersError('ERR_PATH', `${weights}: names ${describe(shard)}, expected a plain file name`);
    }
  }
  return [...wanted, weights, ...(shards as Set<string>)];
}

/** Counts the bytes of bodies as they are read. */
function countingFetch(inner: typeof fetch, report: (loadedBytes: number) => void): typeof fetch {
  return async (input, init) => {
    const response = await inner(input, init);
    if (!response.body) return response;
    let loaded = 0;
    const counter = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        loaded += chunk.byteLength;
        report(loaded);
        controller.enqueue(chunk);
      },
    });
    const { status, statusText, headers } = response;
    const counted = new Response(response.body.pipeThrough(counter), { status, statusText, headers });
    Object.defineProperty(counted, 'url', { value: response.url });
    return counted;
  };
}

/** @throws XlformersError ERR_NETWORK when the file is not what the hub says; the file is removed */
async function verify(local: string, { path: name, size, oid, lfs }: HubFile): Promise<void> {
  const real = await fs.realpath(local);
  const expected = lfs
    ? { algorithm: 'sha256', hash: lfs.oid, prefix: '' }
    : oid && { algorithm: 'sha1', hash: oid, prefix: `blob ${size}\0` };
  if (!expected) return;
  const hash = createHash(expected.algorithm).update(expected.prefix);
  for await (const chunk of createReadStream(real)) hash.update(chunk as Buffer);
  const actual = hash.digest('hex');
  if (actual === expected.hash.replace(/^sha256:/, '')) return;
  await fs.rm(real, { force: true });
  await fs.rm(local, { force: true });
  throw new XlformersError(
    'ERR_NETWORK',
    `${name}: got ${expected.algorithm} ${actual}, expected ${expected.hash}: the download was damaged; try again`,
  );
}

async function isFile(name: string): Promise<boolean> {
  try {
    return (await fs.stat(name)).isFile();
  } catch {
    return false;
  }
}
