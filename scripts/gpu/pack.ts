/**
 * Packs what scripts/gpu/check needs on a machine with a GPU that has neither Node nor npm: this Node, the compiled library and tests, jest
 * and the headers of Node-API. Everything else comes from the checkout there.
 *
 *   ts-node scripts/gpu/pack.ts [folder]     default: build-gpu-pack, which git ignores; one file there, xlformers-gpu.tar.xz
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.join(__dirname, '..', '..');
const archive = path.join(path.resolve(process.argv[2] ?? path.join(root, 'build-gpu-pack')), 'xlformers-gpu.tar.xz');
/** What runs there; with all that these need. */
const packages = ['jest', 'commander', 'node-addon-api', 'node-api-headers'];

interface LockEntry {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
}
const lock = (
  JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, LockEntry> }
).packages;

/** Where Node finds a package that the one in `from` asks for. */
function folderOf(from: string, name: string): string | null {
  for (let folder = from; ;) {
    const candidate = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
    if (lock[candidate] !== undefined && existsSync(path.join(root, candidate))) return candidate;
    if (folder === '') return null;
    folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')));
  }
}

function withDependencies(names: readonly string[]): string[] {
  const found = new Set<string>();
  const visit = (folder: string | null): void => {
    if (folder === null || found.has(folder)) return;
    found.add(folder);
    const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = lock[folder] as LockEntry;
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      if (!peerDependenciesMeta?.[name]?.optional) visit(folderOf(folder, name));
    }
  };
  for (const name of names) visit(folderOf('', name));
  return [...found].sort();
}

const staging = mkdtempSync(path.join(os.tmpdir(), 'xlformers-gpu-'));
try {
  const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const only = {
    extends: path.join(root, 'tsconfig.json'),
    include: [
      'lib',
      'scripts/bench/gpuModels.ts',
      'test/ops',
      'test/cuda',
      'test/inference/ringDecoding.test.ts',
      'test/inference/ringMemory.test.ts',
      'test/models',
      'test/support',
    ],
  };
  const options = { outDir: staging, rootDir: root, declaration: false, sourceMap: false };
  const project = path.join(root, 'build-gpu-pack.tsconfig.json');
  writeFileSync(project, JSON.stringify({ ...only, compilerOptions: options }));
  try {
    execFileSync(process.execPath, [tsc, '-p', project], { stdio: 'inherit' });
  } finally {
    rmSync(project);
  }
  for (const folder of withDependencies(packages)) {
    cpSync(path.join(root, folder), path.join(staging, folder), { recursive: true, dereference: true });
  }
  for (const file of ['package.json', 'bin'])
    cpSync(path.join(root, file), path.join(staging, file), { recursive: true });
  cpSync(process.execPath, path.join(staging, 'node'));
  execFileSync('strip', [path.join(staging, 'node')]);
  mkdirSync(path.dirname(archive), { recursive: true });
  execFileSync('bash', ['-c', 'tar -C "$0" -cf - . | xz -6 -T0 > "$1"', staging, archive]);
} finally {
  rmSync(staging, { recursive: true, force: true });
}
console.log(`${archive}: ${(statSync(archive).size / 2 ** 20).toFixed(1)} MiB`);
