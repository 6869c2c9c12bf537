/** A hub with a tiny XLNet and an empty cache, anew for each test of a file. */
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { FakeHub } from './fakeHub';
import { fixturePath } from './fixtures';

export const hubRepository = 'someone/tiny-xlnet';
export const hubCommit = 'c'.repeat(40);

export interface HubCase {
  scratch: string;
  cacheDir: string;
  hub: FakeHub;
}

/** @returns filled before each test; the environment names its hub and cache */
export function hubCase(): HubCase {
  const saved = { ...process.env };
  const current = {} as HubCase;
  beforeEach(async () => {
    const scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-hub-'));
    const model = fixturePath('hf', 'xlnet-lm-plain');
    const tokenizer = fixturePath('tokenizers', 'xlnet-small');
    const hub = new FakeHub(hubRepository, {
      'config.json': { data: await fs.readFile(path.join(model, 'config.json')) },
      'tokenizer.json': { data: await fs.readFile(path.join(tokenizer, 'tokenizer.json')) },
      'spiece.model': { data: await fs.readFile(path.join(tokenizer, 'spiece.model')), large: true },
      'vocab.txt': { data: Buffer.alloc(0) },
      'pytorch_model.bin': { data: await fs.readFile(path.join(model, 'pytorch_model.bin')), large: true },
      'README.md': { data: Buffer.from('# A model\n') },
    });
    await hub.start();
    Object.assign(current, { scratch, hub, cacheDir: path.join(scratch, 'hub') });
    for (const name of Object.keys(process.env)) if (/^(HF_|XDG_CACHE)/.test(name)) delete process.env[name];
    process.env.HF_ENDPOINT = hub.url;
    process.env.HF_HUB_CACHE = current.cacheDir;
  });
  afterEach(async () => {
    process.env = { ...saved };
    await current.hub.stop();
    await fs.rm(current.scratch, { recursive: true });
  });
  return current;
}

/** Files under a folder, links not followed. */
export async function filesUnder(directory: string): Promise<string[]> {
  const entries = await fs.readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)))
    .sort();
}
