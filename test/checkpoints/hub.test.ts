import { spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AutoModel, type DownloadProgress, XLNetTokenizer, resolveModel } from '../../lib';
import { RepositoryCache } from '../../lib/checkpoints/hubCache';
import type { HubClient } from '../../lib/checkpoints/hubDownload';
import { repository as root } from '../support/cli';
import { FakeHub, gitHash, sha256 } from '../support/fakeHub';
import { filesUnder, hubCase, hubCommit, hubRepository } from '../support/hubCase';

// The real package; `import()` is beyond jest, which the last tests make up for in processes of their own.
const client = createRequire(__filename)('@huggingface/hub') as HubClient;

const [repository, commit] = [hubRepository, hubCommit];
const current = hubCase();
let { scratch, cacheDir, hub } = current;
beforeEach(() => void ({ scratch, cacheDir, hub } = current));

const folder = (...parts: string[]) => path.join(cacheDir, 'models--someone--tiny-xlnet', ...parts);
const resolve = (options: Parameters<typeof resolveModel>[1] = {}, name = repository) =>
  resolveModel(name, options, client);
const offline = { localFilesOnly: true };

const files = filesUnder;

test('a model comes into the cache in the standard layout, and works', async () => {
  const snapshot = await resolve();
  expect(snapshot).toBe(folder('snapshots', commit));
  const wanted = ['config.json', 'pytorch_model.bin', 'spiece.model', 'tokenizer.json', 'vocab.txt'];
  expect(await files(snapshot)).toEqual(wanted);
  for (const name of wanted) {
    const { data, large } = hub.files[name]!;
    expect(await fs.readlink(path.join(snapshot, name))).toBe(
      path.join('..', '..', 'blobs', large ? sha256(data) : gitHash(data)),
    );
    expect((await fs.readFile(path.join(snapshot, name))).equals(data)).toBe(true);
  }
  expect(await fs.readFile(folder('refs', 'main'), 'utf8')).toBe(commit);
  expect((await files(folder('blobs'))).length).toBe(wanted.length);
  const model = await AutoModel.fromPretrained(snapshot);
  expect(model.parameters().has('transformer.mask_emb')).toBe(true);
  model.dispose();
  expect((await XLNetTokenizer.fromFolder(snapshot)).vocabSize).toBeGreaterThan(0);
});

test('a second time asks what the commit is and fetches nothing', async () => {
  await resolve();
  hub.requests.length = 0;
  expect(await resolve()).toBe(folder('snapshots', commit));
  expect(hub.requests.length).toBe(2);
  expect(hub.requests.every(({ path: name }) => name.startsWith('/api/'))).toBe(true);
});

test('a new commit shares what did not change', async () => {
  await resolve();
  const next = 'd'.repeat(40);
  hub.references = { main: next, old: commit };
  hub.commit = next;
  hub.files['vocab.txt'] = { data: Buffer.from('changed\n') };
  hub.requests.length = 0;
  expect(await resolve()).toBe(folder('snapshots', next));
  expect(
    hub.requests.filter(({ path: name }) => name.includes('/resolve/')).map(({ path: name }) => path.basename(name)),
  ).toEqual(
    // Its size, then the whole.
    ['vocab.txt', 'vocab.txt'],
  );
  expect(await fs.readFile(folder('refs', 'main'), 'utf8')).toBe(next);
  expect(await fs.readFile(folder('snapshots', commit, 'vocab.txt'), 'utf8')).toBe('');
});

test('branches, tags and commits', async () => {
  hub.references = { main: commit, 'v1.0': 'e'.repeat(40), 'refs/pr/3': 'f'.repeat(40) };
  expect(await resolve({ revision: 'v1.0' })).toBe(folder('snapshots', 'e'.repeat(40)));
  expect(await resolve({ revision: 'refs/pr/3' })).toBe(folder('snapshots', 'f'.repeat(40)));
  expect(await resolve({ revision: commit })).toBe(folder('snapshots', commit));
  expect(await files(folder('refs'))).toEqual(['refs/pr/3', 'v1.0']);
  hub.requests.length = 0;
  expect(await resolve({ revision: commit })).toBe(folder('snapshots', commit));
  expect(hub.requests).toEqual([]);
  await expect(resolve({ revision: 'v2.0' })).rejects.toMatchObject({
    code: 'ERR_FILE_NOT_FOUND',
    message: expect.stringContaining("no revision 'v2.0'") as string,
  });
});

test.each(['../../etc', 'a/../b', '/etc/passwd', 'a//b', 'a/', '', '.hidden', 'a\0b', 'a\\b', 5 as never])(
  'revision %j is refused',
  async (revision) => {
    await expect(resolve({ revision })).rejects.toMatchObject({ code: 'ERR_PATH' });
    expect(hub.requests).toEqual([]);
  },
);

test.each([
  '../x',
  'a/../b',
  'a/..',
  '/etc/passwd/x/y',
  'a/b/c',
  'a\\b',
  'C:\\models\\x',
  '\\\\host\\share',
  'a/b\0',
  'a',
  'a--b/../c',
])('the name %j is refused', async (name) => {
  await expect(resolve({}, name)).rejects.toMatchObject({
    code: expect.stringMatching(/^ERR_(PATH|FILE_NOT_FOUND)$/) as string,
    message: expect.stringContaining('neither a folder nor a hub id') as string,
  });
  expect(hub.requests).toEqual([]);
  expect(await files(scratch)).toEqual([]);
});

test.each([
  ['transformer-xl', 'transfo-xl/transfo-xl-wt103'],
  ['xlnet', 'xlnet/xlnet-base-cased'],
  ['xlnet-base-cased', 'xlnet/xlnet-base-cased'],
])('%s stands for %s', async (name, full) => {
  await expect(resolve(offline, name)).rejects.toThrow(`${full}: not in the cache ${cacheDir} (revision main)`);
  const other = new FakeHub(full, hub.files);
  await other.start();
  process.env.HF_ENDPOINT = other.url;
  const snapshot = path.join(cacheDir, `models--${full.replace('/', '--')}`, 'snapshots', commit);
  try {
    expect(await resolve({}, name)).toBe(snapshot);
  } finally {
    await other.stop();
  }
  expect(await resolve(offline, name)).toBe(snapshot);
});

describe('where the cache is', () => {
  test.each<[string, Record<string, string>, string[]]>([
    ['HF_HUB_CACHE', { HF_HUB_CACHE: 'a', HF_HOME: 'b', XDG_CACHE_HOME: 'c' }, ['a']],
    ['HF_HOME', { HF_HOME: 'b', XDG_CACHE_HOME: 'c' }, ['b', 'hub']],
    ['XDG_CACHE_HOME', { XDG_CACHE_HOME: 'c' }, ['c', 'huggingface', 'hub']],
  ])('%s', async (_, variables, place) => {
    delete process.env.HF_HUB_CACHE;
    for (const [name, value] of Object.entries(variables)) process.env[name] = path.join(scratch, value);
    expect(await resolve()).toBe(path.join(scratch, ...place, 'models--someone--tiny-xlnet', 'snapshots', commit));
  });

  test('cacheDir comes before all', async () => {
    const own = path.join(scratch, 'own');
    expect(await resolve({ cacheDir: own })).toBe(path.join(own, 'models--someone--tiny-xlnet', 'snapshots', commit));
    await expect(resolve(offline)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    await resolve({ ...offline, cacheDir: own });
  });
});

describe('without a network', () => {
  test('localFilesOnly and HF_HUB_OFFLINE ask nobody', async () => {
    await expect(resolve(offline)).rejects.toThrow(/downloads are off; run once without localFilesOnly/);
    process.env.HF_HUB_OFFLINE = '1';
    await expect(resolve()).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    expect(hub.requests).toEqual([]);
    await resolve({ localFilesOnly: false });
    hub.requests.length = 0;
    expect(await resolve()).toBe(folder('snapshots', commit));
    expect(hub.requests).toEqual([]);
  });

  test('what is in the cache serves when the hub does not answer, or not sensibly', async () => {
    await resolve();
    hub.mischief = { status: 503 };
    expect(await resolve()).toBe(folder('snapshots', commit));
    await hub.stop();
    expect(await resolve()).toBe(folder('snapshots', commit));
    await expect(resolve({ revision: 'v1' })).rejects.toMatchObject({
      code: 'ERR_NETWORK',
      message: expect.stringMatching(/^someone\/tiny-xlnet: download failed: fetch failed: .*ECONNREFUSED/) as string,
    });
    await hub.start();
  });

  test.each([
    [404, 'ERR_FILE_NOT_FOUND', 'the hub has no such model'],
    [401, 'ERR_NETWORK', 'HF_TOKEN'],
    [403, 'ERR_NETWORK', 'HF_TOKEN'],
    [500, 'ERR_NETWORK', 'status 500'],
  ])('status %d', async (status, code, words) => {
    hub.mischief = { status };
    await expect(resolve()).rejects.toMatchObject({ code, message: expect.stringContaining(words) as string });
    expect(await files(scratch)).toEqual([]);
  });

  test('a snapshot that lacks a file is none', async () => {
    await resolve();
    await fs.rm(folder('snapshots', commit, 'pytorch_model.bin'));
    await expect(resolve(offline)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    await fs.writeFile(folder('refs', 'main'), '../../../elsewhere');
    await expect(resolve(offline)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  });
});

describe('what is downloaded is checked', () => {
  test.each(['config.json', 'pytorch_model.bin'])('a damaged %s is removed', async (name) => {
    hub.mischief = { damaged: name };
    await expect(resolve()).rejects.toMatchObject({
      code: 'ERR_NETWORK',
      message: expect.stringMatching(
        new RegExp(`${name}: got .*expected .*damaged and is removed; try again`),
      ) as string,
    });
    await expect(fs.access(folder('snapshots', commit, name))).rejects.toThrow();
    await expect(resolve(offline)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    hub.mischief = {};
    await resolve();
  });

  test('a damaged file is an error even where an older model is in the cache', async () => {
    await resolve();
    hub.references = { main: 'd'.repeat(40) };
    hub.files['config.json'] = { data: Buffer.from('{"model_type": "xlnet"}') };
    hub.mischief = { damaged: 'config.json' };
    await expect(resolve()).rejects.toThrow(/damaged/);
  });

  test.each(['config.json', 'pytorch_model.bin'])(
    'a download of %s that is cut off leaves nothing half-written',
    async (name) => {
      hub.mischief = { cut: name };
      await expect(resolve()).rejects.toMatchObject({ code: 'ERR_NETWORK' });
      for (const blob of await files(folder('blobs'))) expect(blob).toMatch(/^[0-9a-f]{40,64}$/);
      await expect(fs.access(folder('snapshots', commit, name))).rejects.toThrow();
      await expect(fs.access(folder('refs', 'main'))).rejects.toThrow();
    },
  );

  test.each([
    ['a commit that is a path', { sha: '../../../../tmp/x' }],
    ['a commit that is none', { sha: '' }],
    ['a hash that is a path', { hash: '../../../../../tmp/evil' }],
    ['a hash of another length', { hash: 'ab' }],
  ])('%s is refused', async (_, mischief) => {
    hub.mischief = mischief;
    await expect(resolve()).rejects.toMatchObject({ code: 'ERR_NETWORK' });
    expect(await files(scratch)).toEqual([]);
  });

  test('files that nobody asked for are ignored', async () => {
    hub.mischief = { extra: ['../../evil', '/etc/passwd', 'modeling_evil.py'] };
    expect(await files(await resolve())).not.toContain('modeling_evil.py');
    expect((await files(scratch)).filter((name) => name.includes('evil'))).toEqual([]);
  });

  test('a repository without weights or configuration', async () => {
    hub.files = { 'config.json': hub.files['config.json']! };
    await expect(resolve()).rejects.toThrow(/lacks config.json or weights; looked for model.safetensors/);
  });
});

describe('several files of weights', () => {
  const index = (...names: string[]) => ({
    data: Buffer.from(JSON.stringify({ weight_map: Object.fromEntries(names.map((name, at) => [`t${at}`, name])) })),
  });
  beforeEach(() => {
    hub.files = {
      'config.json': hub.files['config.json']!,
      'a.bin': { data: Buffer.from('a'), large: true },
      'b.bin': { data: Buffer.from('b'), large: true },
    };
  });

  test('come along', async () => {
    hub.files['pytorch_model.bin.index.json'] = index('a.bin', 'b.bin', 'a.bin');
    const snapshot = await resolve();
    expect(await files(snapshot)).toEqual(['a.bin', 'b.bin', 'config.json', 'pytorch_model.bin.index.json']);
    expect(await resolve(offline)).toBe(snapshot);
    await fs.rm(path.join(snapshot, 'b.bin'));
    await expect(resolve(offline)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  });

  test.each(['../a.bin', '/etc/passwd.bin', 'x/../../a.bin', '..\\a.bin', 'config.json'])(
    '%j is refused',
    async (name) => {
      hub.files['pytorch_model.bin.index.json'] = index('a.bin', name);
      await expect(resolve()).rejects.toMatchObject({ code: 'ERR_PATH' });
    },
  );

  test('one that the repository lacks is named', async () => {
    hub.files['pytorch_model.bin.index.json'] = index('a.bin', 'gone.bin');
    await expect(resolve()).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_INDEX',
      message: expect.stringContaining("'gone.bin'") as string,
    });
  });
});

test('the token goes to the hub and to nobody else', async () => {
  await resolve({ token: 'hf_secret' });
  const seen = (server: string) =>
    new Set(hub.requests.filter((request) => request.server === server).map(({ authorization }) => authorization));
  expect(seen('hub')).toEqual(new Set(['Bearer hf_secret']));
  expect(seen('cdn')).toEqual(new Set([undefined]));
  process.env.HF_TOKEN = 'hf_other';
  hub.requests.length = 0;
  await resolve();
  expect(seen('hub')).toEqual(new Set(['Bearer hf_other']));
});

test('progress adds up', async () => {
  const seen = new Map<string, DownloadProgress[]>();
  await resolve({ onProgress: (progress) => seen.set(progress.file, [...(seen.get(progress.file) ?? []), progress]) });
  expect([...seen.keys()].sort()).toEqual([
    'config.json',
    'pytorch_model.bin',
    'spiece.model',
    'tokenizer.json',
    'vocab.txt',
  ]);
  for (const [file, steps] of seen) {
    const size = hub.files[file]!.data.length;
    expect(steps.every(({ totalBytes }) => totalBytes === size)).toBe(true);
    const loaded = steps.map(({ loadedBytes }) => loadedBytes);
    expect(loaded[0]).toBe(0);
    expect(loaded.at(-1)).toBe(size);
    expect([...loaded].sort((a, b) => a - b)).toEqual(loaded);
  }
});

test('an abort in the middle of a file leaves nothing half-written', async () => {
  hub.mischief = { stalled: 'pytorch_model.bin' };
  const controller = new AbortController();
  const reason = new Error('enough');
  const onProgress = ({ file, loadedBytes }: DownloadProgress) => {
    if (file === 'pytorch_model.bin' && loadedBytes > 0) controller.abort(reason);
  };
  await expect(resolve({ signal: controller.signal, onProgress })).rejects.toBe(reason);
  for (const blob of await files(folder('blobs'))) expect(blob).toMatch(/^[0-9a-f]{40,64}$/);
  expect(await files(folder('snapshots', commit))).not.toContain('pytorch_model.bin');
  hub.mischief = {};
  await expect(resolve({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  await resolve();
});

test("two at a time do not get in each other's way", async () => {
  const [a, b] = await Promise.all([resolve(), resolve()]);
  expect(a).toBe(b);
  expect((await fs.readFile(path.join(a, 'spiece.model'))).equals(hub.files['spiece.model']!.data)).toBe(true);
});

test('a file that another process links again is there all the while', async () => {
  const file = path.join(await resolve(), 'config.json');
  const cache = new RepositoryCache(cacheDir, repository);
  let linking = true;
  const linked = (async () => {
    for (let time = 0; time < 200; time += 1)
      await cache.link(commit, 'config.json', gitHash(hub.files['config.json']!.data));
    linking = false;
  })();
  let looks = 0;
  for (; linking; looks += 1) await fs.stat(file);
  await linked;
  expect(looks).toBeGreaterThan(10);
});

describe('in a process of its own', () => {
  const program = path.join(__dirname, 'programs', 'resolveModel.cjs');
  const run = async (...flags: string[]) => {
    const child = spawn(process.execPath, ['-r', 'ts-node/register/transpile-only', ...flags, program, repository], {
      cwd: root,
      env: process.env,
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await new Promise((done) => child.on('close', done));
    return JSON.parse(output) as { folder?: string; code?: string; message?: string };
  };

  test('the package is found and writes nothing to the output', async () => {
    expect(await run()).toEqual({ folder: folder('snapshots', commit) });
  });

  test('without the package: how to get it', async () => {
    const hook = path.join(scratch, 'without.mjs');
    await fs.writeFile(
      hook,
      `export const resolve = (name, context, next) => {
        if (name === '@huggingface/hub') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' });
        return next(name, context);
      };`,
    );
    const register = `data:text/javascript,import{register}from'node:module';register(${JSON.stringify(`file://${hook}`)});`;
    expect(await run('--import', register)).toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringContaining("run 'npm install @huggingface/hub', or give a folder") as string,
    });
  });
});
