/** The CUDA plugin as nvcc makes it, without its kernels, which take minutes: it loads without a driver and says what is missing. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repository } from '../support/cli';

const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-cuda-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What matrix_product.cu gives to the rest; all operators have stand-ins. */
const kernels = `
  #include "cuda/gemm.h"
  namespace xlformers::cuda {
  Status finish_stored_product(const Context&, const MatrixProductParams&, const void*, int64_t) { return ok_status(); }
  Status multiply_normed(const Context&, const LayerNormParams&, const MatrixProductParams&) { return ok_status(); }
  }`;

function buildPlugin(): string {
  const plugin = path.join(folder, 'xlformers_cuda.so');
  const standIn = path.join(folder, 'kernels.cc');
  writeFileSync(standIn, kernels);
  const sources = path.join(repository, 'native', 'cuda');
  const host = readdirSync(sources).filter((name) => name.endsWith('.cc') || name === 'runtime.cu');
  execFileSync(
    'nvcc',
    ['-std=c++17', '-arch=sm_90', '-shared', '-cudart', 'static', '-I', path.join(repository, 'native'), '-o', plugin]
      .concat(['-Xcompiler', '-fPIC', '-Xlinker', `--version-script=${path.join(sources, 'plugin.map')},--no-undefined`, standIn])
      .concat(host.map((name) => path.join(sources, name))),
    { stdio: 'pipe' },
  );
  return plugin;
}

function xlformersInfo(plugin: string): string {
  return execFileSync(process.execPath, [path.join(repository, 'bin', 'xlformers.js'), 'info', '--devices'], {
    // On a machine with GPUs they are hidden.
    env: { ...process.env, XLFORMERS_CUDA_PLUGIN: plugin, CUDA_VISIBLE_DEVICES: '' },
    encoding: 'utf8',
  });
}

const hasNvcc = spawnSync('nvcc', ['--version'], { stdio: 'ignore' }).status === 0;
const hasDriver = existsSync('/proc/driver/nvidia/version');

test(`the CUDA plugin ${hasNvcc ? 'says why there is no device' : 'is missing, and so says the list of devices'}`, () => {
  const plugin = hasNvcc ? buildPlugin() : path.join(folder, 'xlformers_cuda.so');
  const why = hasNvcc
    ? hasDriver
      ? /no CUDA device: /
      : /no NVIDIA driver is installed/
    : new RegExp(`the cuda plugin cannot be opened: ${plugin}: `);
  expect(xlformersInfo(plugin).replace(/\s+/g, ' ')).toMatch(why);
});

if (hasNvcc) {
  test('the CUDA plugin needs no library of CUDA and exports one function', () => {
    const plugin = path.join(folder, 'xlformers_cuda.so');
    expect(execFileSync('ldd', [plugin], { encoding: 'utf8' })).not.toMatch(/cuda|not found/);
    const exported = execFileSync('nm', ['-D', '--defined-only', plugin], { encoding: 'utf8' });
    expect(exported.trim().split('\n')).toEqual([expect.stringMatching(/ T xlformers_backend$/)]);
  });
}
