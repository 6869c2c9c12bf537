'use strict';
// Brings a fresh checkout to where `npm start` and `npm test` run: dependencies, native addon, compiled TypeScript. Does only what is
// out of date, so a second call ends at once. Uses nothing but Node itself.
const { spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '..');
const stampFile = path.join(root, 'build', '.setup.json');
const lock = 'package-lock.json';
const addon = path.join(root, 'build', 'Release', 'xlformers.node');
const compiled = path.join(root, 'dist', 'lib', 'index.js');

function fail(lines) {
  console.error(['', ...lines].join('\n'));
  process.exit(1);
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Whether a compiler is there and takes C++17. */
function compilesCpp17(compiler) {
  // CXX may hold arguments too: "ccache g++".
  const [command, ...first] = compiler.split(' ');
  const options = [...first, '-std=c++17', '-fsyntax-only', '-x', 'c++', '-'];
  return spawnSync(command, options, { input: '#include <optional>\nstd::optional<int> x;\n' }).status === 0;
}

/** Major and minor version. */
function cmakeVersion() {
  const { stdout } = spawnSync('cmake', ['--version'], { encoding: 'utf8' });
  const match = /cmake version (\d+)\.(\d+)/.exec(stdout ?? '');
  return match && [Number(match[1]), Number(match[2])];
}

/** How to get a tool, by the package manager that is here. */
function howToGet({ apt, dnf, brew }) {
  if (process.platform === 'darwin') return `  brew install ${brew}`;
  return [`  apt-get install ${apt}      (Debian, Ubuntu)`, `  dnf install ${dnf}      (Fedora, RHEL)`].join('\n');
}

function checkTools() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 17)) {
    fail([`Node ${process.versions.node} is too old: 20.17 or newer is needed. https://nodejs.org has it.`]);
  }
  const missing = [];
  const cmake = cmakeVersion();
  if (cmake === null) {
    missing.push('CMake 3.24 or newer:', howToGet({ apt: 'cmake', dnf: 'cmake', brew: 'cmake' }));
  } else if (cmake[0] < 3 || (cmake[0] === 3 && cmake[1] < 24)) {
    missing.push(
      `CMake 3.24 or newer (here: ${cmake.join('.')}):`,
      '  pip install --user cmake      or a package of https://cmake.org/download',
    );
  }
  // CMake takes CXX where it is set, else the first of these that it finds.
  const { CXX } = process.env;
  if (!(CXX ? [CXX] : ['c++', 'g++', 'clang++']).some(compilesCpp17)) {
    missing.push(
      `a C++17 compiler${CXX ? ` (CXX is ${CXX}, which is none)` : ''}:`,
      howToGet({ apt: 'g++', dnf: 'gcc-c++', brew: 'gcc' }),
    );
  }
  if (!has('make') && !has('ninja')) {
    missing.push('make or ninja:', howToGet({ apt: 'make', dnf: 'make', brew: 'ninja' }));
  }
  if (!has('npm')) missing.push('npm, which comes with Node:', '  https://nodejs.org has both');
  if (missing.length > 0) fail(['Missing to build the native addon:', ...missing, 'Then run the same command again.']);
  if (!has('python3'))
    console.warn('python3 was not found: only the node-gyp build and the xz comparison of the demo need it.');
}

/** One hash over the contents of files and folders. */
function hashOf(...names) {
  const hash = createHash('sha256');
  const visit = (name) => {
    const full = path.join(root, name);
    if (!fs.existsSync(full)) return;
    if (fs.statSync(full).isDirectory()) {
      for (const entry of fs.readdirSync(full).sort()) visit(path.join(name, entry));
      return;
    }
    hash.update(`${name}\0`).update(fs.readFileSync(full)).update('\0');
  };
  names.forEach(visit);
  return hash.digest('hex');
}

function run(title, command, args) {
  const started = Date.now();
  process.stdout.write(`${title} …\n`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) {
    fail([
      `${title} failed: ${[command, ...args].join(' ')}`,
      error
        ? `${command} cannot be started: ${error.message}`
        : 'What it printed above says why; then run the same command again.',
    ]);
  }
  process.stdout.write(`${title}: ${((Date.now() - started) / 1000).toFixed(0)} s\n`);
}

/** A program of node_modules, started without a shell. */
function tool(name, file) {
  return [process.execPath, path.join(root, 'node_modules', name, file)];
}

function main() {
  const wanted = {
    node: `${process.version} ${process.platform} ${process.arch}`,
    dependencies: hashOf(lock),
    native: hashOf('native', 'CMakeLists.txt'),
    typescript: hashOf('lib', 'tsconfig.json', 'tsconfig.build.json'),
  };
  let done = {};
  try {
    done = JSON.parse(fs.readFileSync(stampFile, 'utf8'));
  } catch {
    // No set-up yet.
  }
  const same = (part) => done.node === wanted.node && done[part] === wanted[part];
  const remember = (part) => {
    done = { ...done, node: wanted.node, [part]: wanted[part] };
    fs.mkdirSync(path.dirname(stampFile), { recursive: true });
    fs.writeFileSync(stampFile, JSON.stringify(done));
  };
  // npm would empty the folder that a link leads to: whoever made the link looks after it.
  const linked = fs.lstatSync(path.join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
  const needs = {
    dependencies: !linked && (!same('dependencies') || !fs.existsSync(path.join(root, 'node_modules', 'cmake-js'))),
    native: !same('native') || !fs.existsSync(addon),
    typescript: !same('typescript') || !fs.existsSync(compiled),
  };
  if (!needs.dependencies && !needs.native && !needs.typescript) return;
  if (needs.native) checkTools();
  if (done.node !== wanted.node) done = {};
  if (needs.dependencies) {
    run('Installing dependencies', 'npm', [
      fs.existsSync(path.join(root, lock)) ? 'ci' : 'install',
      '--no-audit',
      '--no-fund',
    ]);
    remember('dependencies');
  }
  if (needs.native) {
    const [node, cmakeJs] = tool('cmake-js', 'bin/cmake-js');
    run('Configuring the native build', node, [cmakeJs, 'configure']);
    run('Building the native addon', node, [cmakeJs, 'build', '-p', String(os.availableParallelism())]);
    remember('native');
  }
  if (needs.typescript) {
    const [node, tsc] = tool('typescript', 'bin/tsc');
    run('Compiling TypeScript', node, [tsc, '-p', 'tsconfig.build.json']);
    remember('typescript');
  }
}

main();
