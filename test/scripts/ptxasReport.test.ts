import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseReport, problems, type Table } from '../../scripts/gpu/ptxasReport';
import { repository } from '../support/cli';

const report = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1av' for 'sm_90'
ptxas info    : Function properties for _Z1av
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 47.816 ms
ptxas info    : Compiling entry function '_Z1bv' for 'sm_90'
ptxas info    : Function properties for _Z1bv
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
`;

test("ptxas's report is read kernel by kernel", () => {
  expect(parseReport(report)).toEqual([
    { name: '_Z1av', registers: 30, sharedBytes: 128, local: [0, 0, 0] },
    { name: '_Z1bv', registers: 255, sharedBytes: 0, local: [8, 12, 16] },
  ]);
  expect(() => parseReport("Compiling entry function 'x' for 'sm_90'")).toThrow('without figures');
});

test('local memory, more of anything than granted, and what only one side has are problems', () => {
  const kernels = parseReport(report);
  expect(problems(kernels, { _Z1av: [30, 128], _Z1bv: [255, 0] })).toEqual([
    '_Z1bv: local memory: 8 bytes of stack, spills of 12 bytes stored, 16 loaded',
  ]);
  const [first] = kernels;
  expect(problems([first!], { _Z1av: [40, 256] })).toEqual([]);
  expect(problems([first!], { _Z1av: [29, 64] })).toEqual([
    '_Z1av: 30 registers, the table grants 29',
    '_Z1av: 128 bytes of shared memory, the table grants 64',
  ]);
  expect(problems([first!], { gone: [1, 0] })).toEqual([
    '_Z1av: not in the table',
    'gone: in the table, but no longer compiled',
  ]);
});

test('the table has kernels of every file that has any', () => {
  const table = JSON.parse(readFileSync(path.join(repository, 'native', 'cuda', 'ptxas.json'), 'utf8')) as Table;
  expect(Object.keys(table)).toContain('sm_90');
  for (const files of Object.values(table)) {
    expect(Object.keys(files)).toEqual(
      expect.arrayContaining(['relative_tensor_forward_bf16.cu', 'matrix_product.cu', 'fill.cu']),
    );
    for (const [registers, shared] of Object.values(files).flatMap((kernels) => Object.values(kernels))) {
      expect(registers).toBeLessThanOrEqual(255);
      expect(shared).toBeLessThanOrEqual(48 * 1024);
    }
  }
});
