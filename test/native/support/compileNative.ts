import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { repository } from '../../support/cli';

/** Compiles sources of the repository, named from its root or in full, into a program or (with `-shared`) a library of `folder`. */
export function compileNative(folder: string, name: string, sources: readonly string[], options: readonly string[] = []): string {
  const out = path.join(folder, name);
  const [command, ...first] = (process.env.CXX ?? 'c++').split(' ') as [string, ...string[]];
  const files = sources.map((source) => path.resolve(repository, source));
  const args = [...first, '-std=c++17', '-Wall', '-Werror', '-I', path.join(repository, 'native'), ...options, ...files, '-o', out];
  execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  return out;
}
