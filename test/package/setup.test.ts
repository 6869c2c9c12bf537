/** scripts/setup.js on checkouts made for the purpose: what it says is missing, what it runs, and that it runs nothing twice. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repository } from '../support/cli';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-setup-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function write(file: string, content: string, mode = 0o644): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** A folder for PATH with stand-ins: each prints what it is told to and logs its arguments. */
class Tools {
  readonly folder = mkdtempSync(path.join(scratch, 'tools-'));
  readonly log = path.join(this.folder, 'log');

  add(name: string, script = ''): this {
    write(path.join(this.folder, name), `#!/bin/sh\n${script}\n`, 0o755);
    return this;
  }

  static complete(): Tools {
    const tools = new Tools();
    for (const name of ['c++', 'make', 'python3']) tools.add(name);
    tools.add('cmake', 'echo cmake version 3.25.1');
    // A stand-in for npm: installs what the set-up calls next, which logs as well.
    return tools.add('npm', `[ "$1" = --version ] || { echo "npm $*" >> '${tools.log}'; "$NODE" install.js; }`);
  }

  remove(name: string): this {
    rmSync(path.join(this.folder, name));
    return this;
  }

  lines(): string[] {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').trim().split('\n') : [];
  }
}

/** A checkout whose build tools only log and touch what they would make. */
function makeCheckout({ log }: Tools): string {
  const root = mkdtempSync(path.join(scratch, 'checkout-'));
  mkdirSync(path.join(root, 'scripts'));
  copyFileSync(path.join(repository, 'scripts', 'setup.js'), path.join(root, 'scripts', 'setup.js'));
  for (const file of [
    'package-lock.json',
    'native/a.cc',
    'CMakeLists.txt',
    'lib/index.ts',
    'tsconfig.json',
    'tsconfig.build.json',
  ]) {
    write(path.join(root, file), '1');
  }
  const standIn = (name: string, makes: string) => `
    const fs = require('node:fs');
    fs.appendFileSync(${JSON.stringify(log)}, ['${name}', ...process.argv.slice(2)].join(' ') + '\\n');
    fs.mkdirSync(require('node:path').dirname('${makes}'), { recursive: true });
    fs.writeFileSync('${makes}', '');`;
  write(
    path.join(root, 'install.js'),
    `
    const fs = require('node:fs');
    for (const [file, content] of ${JSON.stringify([
      ['node_modules/cmake-js/bin/cmake-js', standIn('cmake-js', 'build/Release/xlformers.node')],
      ['node_modules/typescript/bin/tsc', standIn('tsc', 'dist/lib/index.js')],
    ])}) {
      fs.mkdirSync(require('node:path').dirname(file), { recursive: true });
      fs.writeFileSync(file, content);
    }`,
  );
  return root;
}

function setUp(root: string, tools: Tools, { node = [] as string[], env = {} } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...node, path.join(root, 'scripts', 'setup.js')], {
    cwd: root,
    encoding: 'utf8',
    env: { PATH: tools.folder, NODE: process.execPath, HOME: scratch, ...env },
  });
  return { status, stdout, stderr };
}

test('a fresh checkout is installed, built and compiled; a second call does nothing', () => {
  const tools = Tools.complete();
  const root = makeCheckout(tools);
  expect(setUp(root, tools)).toMatchObject({ status: 0, stderr: '' });
  expect(tools.lines()).toEqual([
    'npm ci --no-audit --no-fund',
    'cmake-js configure',
    `cmake-js build -p ${os.availableParallelism()}`,
    'tsc -p tsconfig.build.json',
  ]);
  expect(setUp(root, tools)).toEqual({ status: 0, stdout: '', stderr: '' });
  expect(tools.lines()).toHaveLength(4);
});

test.each([
  ['package-lock.json', ['npm ci']],
  ['native/a.cc', ['cmake-js configure', 'cmake-js build']],
  ['lib/index.ts', ['tsc -p']],
])('a change of %s repeats what depends on it, and only that', (file, expected) => {
  const tools = Tools.complete();
  const root = makeCheckout(tools);
  setUp(root, tools);
  write(path.join(root, file), '2');
  expect(setUp(root, tools).status).toBe(0);
  const repeated = tools.lines().slice(4);
  expect(repeated).toEqual(expected.map((start) => expect.stringContaining(start)));
});

test.each([
  ['node_modules', ['npm ci']],
  ['build/Release', ['cmake-js configure', 'cmake-js build']],
  ['dist', ['tsc -p']],
])('%s that was removed is made again', (folder, expected) => {
  const tools = Tools.complete();
  const root = makeCheckout(tools);
  setUp(root, tools);
  rmSync(path.join(root, folder), { recursive: true });
  expect(setUp(root, tools).status).toBe(0);
  expect(tools.lines().slice(4)).toEqual(expected.map((start) => expect.stringContaining(start)));
});

test.each([
  ['cmake', /Missing[^]*CMake 3\.24 or newer:[^]*install cmake/],
  ['c++', /Missing[^]*a C\+\+17 compiler:[^]*install g/],
  ['make', /Missing[^]*make or ninja:[^]*install/],
  ['npm', /Missing[^]*npm, which comes with Node/],
])('without %s it says so, and how to get it, before anything is run', (name, message) => {
  const tools = Tools.complete().remove(name);
  const root = makeCheckout(tools);
  const { status, stderr } = setUp(root, tools);
  expect([status, stderr]).toEqual([1, expect.stringMatching(message)]);
  expect(stderr).toContain('run the same command again');
  expect(tools.lines()).toEqual([]);
});

test('everything that is missing is listed at once', () => {
  const tools = new Tools();
  const { status, stderr } = setUp(makeCheckout(tools), tools);
  expect(status).toBe(1);
  for (const each of ['CMake', 'C++17', 'make or ninja', 'npm']) expect(stderr).toContain(each);
});

test('tools that are too old are named with what is there', () => {
  const tools = Tools.complete().add('cmake', 'echo cmake version 3.16.3').add('c++', '[ "$1" = --version ]');
  const root = makeCheckout(tools);
  expect(setUp(root, tools).stderr).toMatch(/CMake 3\.24 or newer \(here: 3\.16\)[^]*a C\+\+17 compiler/);
  const old = path.join(scratch, 'old-node.js');
  writeFileSync(
    old,
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.1' } });",
  );
  const { status, stderr } = setUp(root, Tools.complete(), { node: ['-r', old] });
  expect([status, stderr]).toEqual([1, expect.stringContaining('Node 18.20.1 is too old: 20.17 or newer is needed')]);
});

test('a CXX that is no compiler is named', () => {
  const tools = Tools.complete();
  const { status, stderr } = setUp(makeCheckout(tools), tools, { env: { CXX: 'no-such-compiler' } });
  expect([status, stderr]).toEqual([1, expect.stringContaining('CXX is no-such-compiler')]);
});

test('python3 is asked for, not demanded', () => {
  const tools = Tools.complete().remove('python3');
  const { status, stderr } = setUp(makeCheckout(tools), tools);
  expect([status, stderr]).toEqual([0, expect.stringContaining('python3 was not found')]);
});

test('a step that fails is named, and is repeated the next time', () => {
  const tools = Tools.complete().add('npm', '[ "$1" = --version ] || { echo no network >&2; exit 1; }');
  const root = makeCheckout(tools);
  const { status, stderr } = setUp(root, tools);
  expect(status).toBe(1);
  expect(stderr).toMatch(/no network[^]*Installing dependencies failed: npm ci/);
  const mended = Tools.complete();
  expect(setUp(root, mended).status).toBe(0);
  expect(mended.lines()).toEqual(['npm ci --no-audit --no-fund']);
  expect(tools.lines()).toHaveLength(3);
});

test('node_modules that is a link is left alone: npm would empty what it leads to', () => {
  const tools = Tools.complete();
  const root = makeCheckout(tools);
  setUp(root, tools);
  const elsewhere = path.join(root, 'elsewhere');
  renameSync(path.join(root, 'node_modules'), elsewhere);
  symlinkSync(elsewhere, path.join(root, 'node_modules'));
  write(path.join(root, 'package-lock.json'), '2');
  expect(setUp(root, tools)).toEqual({ status: 0, stdout: '', stderr: '' });
  rmSync(path.join(root, 'build'), { recursive: true });
  expect(setUp(root, tools).status).toBe(0);
  expect(tools.lines().filter((line) => line.startsWith('npm'))).toHaveLength(1);
});
