/** What README and docs name is there: files, headings, commands, options, environment variables. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { repository, runMain } from '../support/cli';

const read = (...parts: string[]) => readFileSync(path.join(repository, ...parts), 'utf8');
const under = (folder: string): string[] =>
  readdirSync(path.join(repository, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.pyc'))
    .map((entry) => path.relative(repository, path.join(entry.parentPath, entry.name)));
const textOf = (files: readonly string[]) => files.map((name) => read(name)).join('\n');

const pages = ['README.md', 'CHANGELOG.md', ...under('docs').filter((name) => name.endsWith('.md'))];
const fenced = /```[\s\S]*?```/g;

/** The names by which GitHub links to the headings of a page. */
function anchors(page: string): string[] {
  const headings = [
    ...read(page)
      .replace(fenced, '')
      .matchAll(/^#+ (.*)$/gm),
  ].map((match) => match[1] as string);
  return headings.map((heading) =>
    heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\- _]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(pages)('links of %s lead somewhere', (page) => {
  const links = [
    ...read(page)
      .replace(fenced, '')
      .matchAll(/\]\(([^)\s]+)\)/g),
  ].map((match) => match[1] as string);
  const broken = links.filter((link) => {
    if (/^https:\/\//.test(link)) return false;
    const [file = '', heading] = link.split('#');
    const target = file === '' ? page : path.join(path.dirname(page), file);
    return !existsSync(path.join(repository, target)) || (heading !== undefined && !anchors(target).includes(heading));
  });
  expect(broken).toEqual([]);
});

/** Files of the repository are named by their path, also without the ending, or with a `*`. */
test.each(pages)('files that %s names are there', (page) => {
  const named = [...read(page).matchAll(/`((?:lib|native|test|scripts|docs|examples|bin)\/[\w./*-]+)`/g)];
  const missing = named
    .map((match) => match[1] as string)
    .filter((name) => {
      const start = name.replace(/\*.*$/, '');
      const folder = start.endsWith('/') ? start : path.dirname(start);
      if (!existsSync(path.join(repository, folder))) return true;
      const last = start.endsWith('/') ? '' : path.basename(start);
      return !readdirSync(path.join(repository, folder)).some((entry) => entry.startsWith(last));
    });
  expect(missing).toEqual([]);
});

test('the tests that docs/security.md names for its promises are there', () => {
  const named = [...read('docs', 'security.md').matchAll(/`((?:checkpoints|models|tokenizers|train)\/\w+)`/g)];
  expect(named.length).toBeGreaterThan(15);
  const missing = named.filter(([, name]) => !existsSync(path.join(repository, 'test', `${name}.test.ts`)));
  expect(missing).toEqual([]);
});

const commands = ['train', 'evaluate', 'generate', 'encode', 'fill', 'attention', 'classify', 'convert', 'info'];
const optionName = /(?<![\w-])--[a-zA-Z][\w-]*/g;
/** Options of the programs that pages name beside our own. */
const foreign: Record<string, string> = { '--set': 'ncu' };

test('options that pages name are options of the command line or of a script', async () => {
  const help = await Promise.all(commands.map(async (command) => (await runMain([command, '--help'])).stdout));
  const sources = [...help, textOf([...under('scripts'), 'native/test/simt/testing.cc'])].join('\n');
  const known = new Set(sources.match(optionName));
  const named = new Set(pages.flatMap((page) => read(page).match(optionName) ?? []));
  expect(named.size).toBeGreaterThan(30);
  expect([...named].filter((option) => !known.has(option) && !(option in foreign))).toEqual([]);
});

test('npm commands that pages name are scripts', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: object };
  const named = pages.flatMap((page) =>
    [...read(page).matchAll(/npm run (?:-s )?([\w:]+)/g)].map((match) => match[1]!),
  );
  expect(named.length).toBeGreaterThan(3);
  for (const name of named) expect(Object.keys(scripts)).toContain(name);
});

test('environment variables that pages name are read', () => {
  const native = 'native/core/environment_variables.h';
  const tests = under('test').filter((name) => /\.c?[jt]s$/.test(name));
  const known = textOf(['lib/env.ts', native, ...under('scripts'), ...tests]);
  const named = new Set(pages.flatMap((page) => read(page).match(/\bXLFORMERS_[A-Z_]+[A-Z]/g) ?? []));
  expect([...named].filter((name) => !known.includes(name))).toEqual([]);
});
