import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import sources from '../../native/sources.json';

const root = path.join(__dirname, '..', '..');

function read(name: string): string {
  return readFileSync(path.join(root, name), 'utf8');
}

test.each(['CMakeLists.txt', 'binding.gyp'])('%s names no source of its own', (name) => {
  expect(read(name).match(/[\w/]+\.cc\b/g) ?? []).toEqual([]);
});

test('both builds compile kernels with the same flags and for the same instruction sets', () => {
  const flags = (name: string) => [...new Set(read(name).match(/-m(avx|fma|prefer)[\w=-]*|-f(fp-|no-math)[\w=-]*/g))].sort();
  expect(flags('binding.gyp')).toEqual(flags('CMakeLists.txt'));
  const sets = (text: string, pattern: RegExp) => [...new Set([...text.matchAll(pattern)].map((match) => match[1]))].sort();
  expect(sets(read('binding.gyp'), /XL_ISA=(\w+)/g)).toEqual(sets(read('CMakeLists.txt'), /add_kernels\((\w+)[ )](?!.*isa)/g));
});

/** Code outside of the per-set namespace would be there once per instruction set, and the linker would keep any of them. */
test('what is compiled for each instruction set is a kernel, and only that', () => {
  const perSet = readdirSync(path.join(root, 'native', 'cpu'))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => `native/cpu/${name}`)
    .filter((name) => read(name).includes('XL_KERNELS_BEGIN'));
  expect(perSet.sort()).toEqual([...sources.kernels].sort());
});
