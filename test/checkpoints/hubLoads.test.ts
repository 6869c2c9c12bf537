/** What each load asks of the hub, by the files that a hub was asked for; and what a folder that has only some of them is good for. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Interface, createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { XLNetLMHeadModel, type HubOptions } from '../../lib';
import { openSafetensors, writeSafetensors } from '../../lib/checkpoints/safetensors';
import { repository as root, runCli } from '../support/cli';
import { fixturePath } from '../support/fixtures';
import { filesUnder, hubCase, hubCommit, hubRepository } from '../support/hubCase';

const current = hubCase();
const snapshot = () => path.join(current.cacheDir, 'models--someone--tiny-xlnet', 'snapshots', hubCommit);

let program: ChildProcessByStdio<Writable, Readable, null>;
let answers: Interface;
let tokenizers: Record<'tokenizer_config.json' | 'vocab.txt' | 'vocab.pkl', { data: Buffer }>;
/** The weights of the fixture as model.safetensors, and in two files. */
let whole: Buffer;
let shards: Record<string, Buffer>;

beforeAll(async () => {
  const args = ['-r', 'ts-node/register/transpile-only', path.join(__dirname, 'programs', 'load.cjs')];
  program = spawn(process.execPath, args, { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
  answers = createInterface({ input: program.stdout });
  const words = fixturePath('tokenizers', 'transformer-xl-small');
  tokenizers = {
    'tokenizer_config.json': { data: Buffer.from('{"do_lower_case": false}') },
    'vocab.txt': { data: await fs.readFile(path.join(words, 'vocab.txt')) },
    'vocab.pkl': { data: await fs.readFile(path.join(words, 'vocab.pkl')) },
  };
  const saved = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-saved-'));
  const model = await XLNetLMHeadModel.fromPretrained(fixturePath('hf', 'xlnet-lm-plain'), { device: 'cpu' });
  await model.save(saved);
  model.dispose();
  whole = await fs.readFile(path.join(saved, 'model.safetensors'));
  shards = await inTwo(path.join(saved, 'model.safetensors'));
  await fs.rm(saved, { recursive: true });
});
afterAll(() => program.stdin.end());

beforeEach(() => {
  const { hub } = current;
  // What other programs load, beside what this one does.
  const others = ['tf_model.h5', 'flax_model.msgpack', 'rust_model.ot', 'model.onnx', 'modeling_evil.py'];
  Object.assign(hub.files, Object.fromEntries(others.map((name) => [name, { data: Buffer.from(name), large: true }])));
  hub.files['tokenizer_config.json'] = tokenizers['tokenizer_config.json'];
  delete hub.files['vocab.txt'];
});

async function inTwo(file: string): Promise<Record<string, Buffer>> {
  const source = await openSafetensors(file);
  const names = [...source.tensors.keys()];
  const places: Record<string, string> = {};
  const found: Record<string, Buffer> = {};
  for (const [index, part] of [names.slice(0, 5), names.slice(5)].entries()) {
    const name = `model-0000${index + 1}-of-00002.safetensors`;
    const entries = await Promise.all(
      part.map(async (tensor) => {
        const { dtype, shape } = source.tensors.get(tensor)!;
        places[tensor] = name;
        return { name: tensor, dtype, shape: [...shape], data: await source.read(tensor) };
      }),
    );
    await writeSafetensors(path.join(path.dirname(file), name), entries);
    found[name] = await fs.readFile(path.join(path.dirname(file), name));
  }
  await source.close();
  return { ...found, 'model.safetensors.index.json': Buffer.from(JSON.stringify({ weight_map: places })) };
}

interface Answer {
  loaded?: string;
  code?: string;
  message?: string;
  /** Files whose contents were asked for. */
  asked: string[];
}

async function load(what: string, options: HubOptions = {}): Promise<Answer> {
  const { hub } = current;
  hub.requests.length = 0;
  const { HF_ENDPOINT, HF_HUB_CACHE } = process.env;
  const line = new Promise<string>((resolve) => answers.once('line', resolve));
  program.stdin.write(
    `${JSON.stringify({ what, name: hubRepository, options, env: { HF_ENDPOINT, HF_HUB_CACHE } })}\n`,
  );
  return { ...(JSON.parse(await line) as object), asked: asked() };
}

function asked(): string[] {
  const bodies = current.hub.requests.filter(
    ({ server, path: name }) => server === 'cdn' || name.includes('/resolve/'),
  );
  return [...new Set(bodies.map(({ path: name }) => path.basename(name)))].sort();
}

const put = (files: Record<string, Buffer>) =>
  Object.assign(
    current.hub.files,
    Object.fromEntries(Object.entries(files).map(([name, data]) => [name, { data, large: true }])),
  );
const offline = { localFilesOnly: true };

describe('a tokenizer takes its own files and no weights', () => {
  test('XLNet', async () => {
    expect(await load('XLNetTokenizer')).toEqual({
      loaded: 'XLNetTokenizer',
      asked: ['tokenizer.json', 'tokenizer_config.json'],
    });
    // config.json says which kind it is.
    expect(await load('AutoTokenizer')).toEqual({ loaded: 'XLNetTokenizer', asked: ['config.json'] });
    expect(await filesUnder(snapshot())).toEqual(['config.json', 'tokenizer.json', 'tokenizer_config.json']);
    expect((await load('AutoTokenizer')).asked).toEqual([]);
  });

  test('XLNet from SentencePiece, where there is no tokenizer.json', async () => {
    delete current.hub.files['tokenizer.json'];
    expect(await load('AutoTokenizer')).toEqual({
      loaded: 'XLNetTokenizer',
      asked: ['config.json', 'spiece.model', 'tokenizer_config.json'],
    });
  });

  test('Transformer-XL, the first vocabulary that is there', async () => {
    Object.assign(current.hub.files, tokenizers);
    expect(await load('TransformerXLTokenizer')).toEqual({
      loaded: 'TransformerXLTokenizer',
      asked: ['tokenizer_config.json', 'vocab.txt'],
    });
  });

  test('bytes need none', async () => {
    const { files } = current.hub;
    for (const name of ['tokenizer.json', 'spiece.model']) delete files[name];
    expect(await load('AutoTokenizer')).toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      message:
        'someone/tiny-xlnet: the repository has no tokenizer.json, spiece.model, vocab.txt, vocab.pkl or vocab.bin',
    });
    files['config.json'] = { data: Buffer.from('{"model_type": "transfo-xl", "vocab_size": 256}') };
    current.hub.commit = 'd'.repeat(40);
    current.hub.references = { main: current.hub.commit };
    // The settings are those of the other commit.
    expect(await load('AutoTokenizer')).toEqual({ loaded: 'ByteLevelTokenizer', asked: ['config.json'] });
    expect(await load('AutoTokenizer', offline)).toEqual({ loaded: 'ByteLevelTokenizer', asked: [] });
  });

  test('`train --tokenizer` with a hub id', async () => {
    const { scratch, hub } = current;
    const text = path.join(scratch, 'text.txt');
    await fs.writeFile(text, 'It was the best of times.\nIt was the worst of times.\n\n'.repeat(40));
    const out = path.join(scratch, 'run');
    const size =
      '--layers 1 --d-model 8 --d-inner 8 --heads 2 --steps 1 --batch-size 1 --target-length 16 --memory-length 8';
    const flags = ['--model', 'xlnet', '--tokenizer', hubRepository, '--out', out, ...size.split(' ')];
    const { code, stderr } = await runCli(['train', text, ...flags]);
    expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
    expect(asked()).toEqual(['spiece.model', 'tokenizer.json', 'tokenizer_config.json']);
    for (const name of asked()) {
      expect((await fs.readFile(path.join(out, 'model', name))).equals(hub.files[name]!.data)).toBe(true);
    }
  });
});

describe('a model takes config.json and its weights in one format', () => {
  test('safetensors before PyTorch', async () => {
    put({ 'model.safetensors': whole });
    expect(await load('XLNetLMHeadModel')).toEqual({
      loaded: 'XLNetLMHeadModel',
      asked: ['config.json', 'model.safetensors'],
    });
    expect(await filesUnder(snapshot())).toEqual(['config.json', 'model.safetensors']);
  });

  test('PyTorch where there is nothing else', async () => {
    expect(await load('AutoModel')).toEqual({
      loaded: 'XLNetLMHeadModel',
      asked: ['config.json', 'pytorch_model.bin'],
    });
    // One format is enough, also where the repository has a better one.
    put({ 'model.safetensors': whole });
    expect(await load('AutoModel')).toEqual({ loaded: 'XLNetLMHeadModel', asked: [] });
  });

  test('an index and its shards; offline, a shard that is missing is named', async () => {
    put(shards);
    const needed = ['config.json', ...Object.keys(shards)].sort();
    expect(await load('AutoModel')).toEqual({ loaded: 'XLNetLMHeadModel', asked: needed });
    expect(await load('AutoModel', offline)).toEqual({ loaded: 'XLNetLMHeadModel', asked: [] });
    await fs.rm(path.join(snapshot(), 'model-00002-of-00002.safetensors'));
    const { code, message } = await load('AutoModel', offline);
    expect([code, message]).toEqual([
      'ERR_FILE_NOT_FOUND',
      expect.stringMatching(/ccc: lacks model-00002-of-00002\.safetensors \(revision main\), and downloads are off/),
    ]);
    // Linked again: the blob is there.
    expect(await load('AutoModel')).toEqual({ loaded: 'XLNetLMHeadModel', asked: [] });
  });
});

describe('a folder that has some of the files', () => {
  const lacks = async (what: string, files: string) => {
    const { code, message } = await load(what, offline);
    expect([code, message]).toEqual([
      'ERR_FILE_NOT_FOUND',
      `${snapshot()}: lacks ${files} (revision main), and downloads are off; ` +
        'run once without localFilesOnly (--offline) and HF_HUB_OFFLINE',
    ]);
  };
  const weights =
    'model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json or model.pt';

  test('the tokenizer: a model load adds the rest, and offline names what is missing', async () => {
    await load('XLNetTokenizer');
    expect((await load('AutoTokenizer', offline)).loaded).toBe('XLNetTokenizer');
    await lacks('AutoModel', `config.json, ${weights}`);
    await lacks('resolveModel', `config.json, ${weights}`);
    await load('AutoTokenizer');
    await lacks('XLNetLMHeadModel', weights);
    // Nor do they serve when the hub does not answer.
    current.hub.mischief = { status: 503 };
    expect(await load('AutoModel')).toMatchObject({ code: 'ERR_NETWORK' });
    expect((await load('AutoTokenizer')).loaded).toBe('XLNetTokenizer');
    current.hub.mischief = {};
    expect(await load('AutoModel')).toEqual({ loaded: 'XLNetLMHeadModel', asked: ['pytorch_model.bin'] });
    expect(await load('resolveModel')).toEqual({ loaded: 'String', asked: ['spiece.model'] });
    expect((await load('AutoModel', offline)).loaded).toBe('XLNetLMHeadModel');
  });

  test('the model: a tokenizer adds its own', async () => {
    await load('AutoModel');
    await lacks('AutoTokenizer', 'tokenizer.json, spiece.model, vocab.txt, vocab.pkl or vocab.bin');
    await lacks('XLNetTokenizer', 'tokenizer.json or spiece.model');
    await lacks('TransformerXLTokenizer', 'vocab.txt, vocab.pkl or vocab.bin');
    // A model needs no tokenizer.
    expect((await load('resolveModel', offline)).loaded).toBe('String');
    expect((await load('AutoTokenizer')).asked).toEqual(['tokenizer.json', 'tokenizer_config.json']);
  });

  test('a tokenizer that is damaged on its way leaves a model that is whole', async () => {
    await load('AutoModel');
    current.hub.mischief = { damaged: 'tokenizer.json' };
    expect(await load('AutoTokenizer')).toMatchObject({
      code: 'ERR_NETWORK',
      message: expect.stringContaining('tokenizer.json: got') as string,
    });
    expect(await filesUnder(snapshot())).not.toContain('tokenizer.json');
    expect((await load('AutoModel', offline)).loaded).toBe('XLNetLMHeadModel');
  });
});

describe('of a commit, which never changes, the hub is asked once', () => {
  const revision = hubCommit;
  const silent = async (what: string) => {
    const { loaded } = await load(what, { revision });
    expect([loaded, current.hub.requests]).toEqual([expect.any(String), []]);
  };

  test('whatever it lacks', async () => {
    for (const what of ['XLNetTokenizer', 'AutoTokenizer', 'AutoModel', 'resolveModel']) {
      expect((await load(what, { revision })).loaded).toBeDefined();
      expect(current.hub.requests).not.toEqual([]);
      await silent(what);
    }
    // As Python's huggingface_hub remembers it.
    const absent = path.join(current.cacheDir, 'models--someone--tiny-xlnet', '.no_exist', hubCommit);
    expect(await filesUnder(absent)).toEqual(['special_tokens_map.json', 'vocab.bin', 'vocab.pkl', 'vocab.txt']);
  });

  test('one tokenizer does not hide that there is another', async () => {
    const { files } = current.hub;
    Object.assign(files, tokenizers, { 'config.json': { data: Buffer.from('{"model_type": "transfo-xl"}') } });
    await load('XLNetTokenizer', { revision });
    await silent('XLNetTokenizer');
    expect(await load('AutoTokenizer', { revision })).toEqual({
      loaded: 'TransformerXLTokenizer',
      asked: ['config.json', 'vocab.txt'],
    });
    await silent('AutoTokenizer');
  });

  test('where that cannot be remembered, it is asked again', async () => {
    await load('AutoModel', { revision });
    await fs.writeFile(path.join(snapshot(), '..', '..', '.no_exist'), '');
    for (let time = 0; time < 2; time += 1) {
      expect((await load('AutoTokenizer', { revision })).loaded).toBe('XLNetTokenizer');
      expect(current.hub.requests).not.toEqual([]);
    }
  });
});
