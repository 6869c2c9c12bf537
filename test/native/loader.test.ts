import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import ts from 'typescript';
import { readFileSync } from 'node:fs';
import { addonPath } from './support/addonPath';

const library = path.join(__dirname, '..', '..', 'lib');
const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-loader-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A package as npm would install it, with the door compiled to `where`. */
function compilePackage(name: string, where: string): string {
  const target = path.join(folder, name, where);
  mkdirSync(target, { recursive: true });
  for (const file of ['env', 'errors', 'native', 'nativeOperators']) {
    const options = { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true } };
    writeFileSync(
      path.join(target, `${file}.js`),
      ts.transpileModule(readFileSync(path.join(library, `${file}.ts`), 'utf8'), options).outputText,
    );
  }
  return target;
}

function backendsSeenFrom(libraryFolder: string, binding = ''): string {
  const program = `
    try {
      console.log(require(${JSON.stringify(path.join(libraryFolder, 'native.js'))}).native.backends()[0].name);
    } catch (error) {
      console.log(error.name, error.code, error.message);
    }`;
  const env = { ...process.env, XLFORMERS_BINDING: binding };
  return execFileSync(process.execPath, ['-e', program], { env, encoding: 'utf8' }).trim();
}

test.each(['lib', path.join('dist', 'lib')])('finds the built addon from %s', (where) => {
  const target = compilePackage(`built-${where.length}`, where);
  const release = path.join(folder, `built-${where.length}`, 'build', 'Release');
  mkdirSync(release, { recursive: true });
  symlinkSync(path.resolve(addonPath), path.join(release, 'xlformers.node'));
  expect(backendsSeenFrom(target)).toBe('cpu');
});

test('finds the shipped addon when none was built', () => {
  const target = compilePackage('shipped', path.join('dist', 'lib'));
  const message = backendsSeenFrom(target);
  const [, shipped] = /- (\S*prebuilds\S*): not there/.exec(message) ?? [];
  mkdirSync(path.dirname(shipped as string), { recursive: true });
  symlinkSync(path.resolve(addonPath), shipped as string);
  expect(backendsSeenFrom(target)).toBe('cpu');
});

test('XLFORMERS_BINDING comes first, and alone', () => {
  const target = compilePackage('given', 'lib');
  expect(backendsSeenFrom(target, path.resolve(addonPath))).toBe('cpu');
  const message = backendsSeenFrom(target, '/nowhere/xlformers.node');
  expect(message).toContain('XlformersError ERR_BINDING');
  expect(message).toContain('/nowhere/xlformers.node: not there');
  expect(message).not.toContain('prebuilds');
});

test('the error lists what was tried, why it failed, and what helps', () => {
  const target = compilePackage('broken', 'lib');
  const release = path.join(folder, 'broken', 'build', 'Release');
  mkdirSync(release, { recursive: true });
  writeFileSync(path.join(release, 'xlformers.node'), 'not a library');
  const message = backendsSeenFrom(target);
  expect(message).toContain('XlformersError ERR_BINDING');
  expect(message).toMatch(/build.Release.xlformers\.node: .*(invalid ELF header|file too short|not a mach-o|not a valid)/);
  expect(message).toMatch(/build.Debug.xlformers\.node: not there/);
  expect(message).toMatch(new RegExp(`prebuilds.${process.platform}(musl)?-${process.arch}.xlformers\\.node: not there`));
  expect(message).toContain('npm run build');
});
