/** Every command of the README that needs no minutes is run; the others (`npm start`, `npm test`, `npm run bench`) must exist. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ModuleKind, transpileModule } from 'typescript';
import * as exported from '../../lib';
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
  const cli = commands.filter((command) => command.startsWith('npx xlformers '));
  expect(cli.length).toBeGreaterThan(3);
  // Stands for what would be downloaded.
  await saveTinyXLNet(path.join(scratch, 'xlnet'));
  for (const command of cli) {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '').slice(2);
    const files: Record<string, string> = { 'held-out.txt': 'book.txt', 'xlnet-base-cased': 'xlnet' };
    const args = words.map((word) =>
      /^(runs|book)/.test(word) || word in files ? path.join(scratch, files[word] ?? word) : word,
    );
    // As documented, but small.
    const small =
      args[0] === 'train'
        ? ['--steps', '2', '--layers', '1', '--d-model', '16', '--d-inner', '16', '--heads', '2']
        : [];
    const result = await runMain([...args, ...small]);
    expect([command, result.code, result.code === 0 ? '' : result.stderr]).toEqual([command, 0, '']);
  }
});

test('the TypeScript of the README compiles, and imports what there is', () => {
  const program = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] as string;
  const { diagnostics } = transpileModule(program, {
    reportDiagnostics: true,
    compilerOptions: { module: ModuleKind.CommonJS },
  });
  expect(diagnostics).toEqual([]);
  const names =
    /import \{([^}]*)\} from 'xlformers'/
      .exec(program)?.[1]
      ?.split(',')
      .map((name) => name.trim())
      .filter(Boolean) ?? [];
  expect(names.length).toBeGreaterThan(2);
  for (const name of names) expect(exported).toHaveProperty(name);
});
