/** Every command of the README that needs no minutes is run; the others (`npm start`, `npm test`, `npm run bench`) must exist. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  createProgram,
  flattenDiagnosticMessageText,
  getPreEmitDiagnostics,
  parseJsonConfigFileContent,
  readConfigFile,
  sys,
} from 'typescript';
import { repository, runMain } from '../support/cli';
import { saveTinyXLNet } from '../support/tinyXLNet';

const readme = readFileSync(path.join(repository, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] as string);
const commands = blocks.flatMap((block) => block.split('\n')).map((line) => line.replace(/\s+#.*$/, '').trim());
const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-readme-'));

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('every npm command exists', () => {
  const { scripts } = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = commands
    .filter((command) => command.startsWith('npm '))
    .map((command) => command.replace(/^npm (run )?/, '').split(' ')[0] as string);
  expect(named.length).toBeGreaterThan(2);
  for (const name of named) expect(scripts).toHaveProperty(name);
});

test('every xlformers command runs', async () => {
  const text = path.join(scratch, 'book.txt');
  writeFileSync(text, 'It was the best of times, it was the worst of times. '.repeat(300));
  writeFileSync(
    path.join(scratch, 'sentences.txt'),
    'It was the best of times.\nIt was the worst of times.\n\n'.repeat(1500),
  );
  const mail = Array.from({ length: 40 }, (_, index) => ({
    text: `Letter ${index}`,
    label: index % 2 ? 'ham' : 'spam',
  }));
  writeFileSync(path.join(scratch, 'mail.jsonl'), mail.map((each) => `${JSON.stringify(each)}\n`).join(''));
  const cli = commands.filter((command) => command.startsWith('npx xlformers '));
  expect(cli.length).toBeGreaterThan(3);
  // Stands for what would be downloaded.
  await saveTinyXLNet(path.join(scratch, 'xlnet'));
  for (const command of cli) {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '').slice(2);
    const files: Record<string, string> = { 'held-out.txt': 'book.txt', 'xlnet-base-cased': 'xlnet' };
    const args = words.map((word) =>
      /^(runs|book|sentences|mail)/.test(word) || word in files ? path.join(scratch, files[word] ?? word) : word,
    );
    // As documented, but small.
    const size = args.includes('--init') ? [] : ['--layers', '1', '--d-model', '16', '--d-inner', '16', '--heads', '2'];
    const small = args[0] === 'train' ? ['--steps', '2', ...size] : [];
    const result = await runMain([...args, ...small]);
    expect([command, result.code, result.code === 0 ? '' : result.stderr]).toEqual([command, 0, '']);
  }
});

const docs = readdirSync(path.join(repository, 'docs')).filter((name) => name.endsWith('.md'));
const pages = [readme, ...docs.map((name) => readFileSync(path.join(repository, 'docs', name), 'utf8'))];
const programs = pages.flatMap((page) => [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, program]) => program!));

test.each(programs)('the TypeScript of README and docs compiles, types included: %#', (program) => {
  const file = path.join(scratch, 'program.ts');
  writeFileSync(file, program.replaceAll("'xlformers'", JSON.stringify(path.join(repository, 'lib'))));
  const { config } = readConfigFile(path.join(repository, 'tsconfig.json'), sys.readFile) as { config: object };
  const { options } = parseJsonConfigFileContent(config, sys, repository);
  const typeRoots = [path.join(repository, 'node_modules', '@types')];
  const compiled = createProgram([file], { ...options, noEmit: true, rootDir: path.parse(file).root, typeRoots });
  const problems = getPreEmitDiagnostics(compiled, compiled.getSourceFile(file));
  expect(problems.map(({ messageText }) => flattenDiagnosticMessageText(messageText, '\n'))).toEqual([]);
});
