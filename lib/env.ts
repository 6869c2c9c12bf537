import os from 'node:os';
import path from 'node:path';

/**
 * Environment variables, all of them. This is the only file of `lib/` that reads `process.env`, and
 * `native/core/environment_variables.h` the only native one that reads them.
 *
 * | variable               | meaning                                                                                   | default          |
 * |------------------------|-------------------------------------------------------------------------------------------|------------------|
 * | XLFORMERS_BINDING      | path of the native addon (`.node`) to load instead of the built or shipped one             | none             |
 * | XLFORMERS_DEVICE       | device of tensors and models that name none: `auto`, `cpu`, `cuda`, `cuda:<index>`         | `auto`           |
 * | XLFORMERS_FAULT        | for crash tests: `point` or `point:n`, where saving a training run kills the process        | none             |
 * | XLFORMERS_NUM_THREADS  | read by the addon: threads of the CPU backend                                              | the CPUs allowed |
 * | XLFORMERS_CPU_ISA      | read by the addon: `baseline`, `avx2`, `avx512` or `neon` instead of the best one           | the best one     |
 * | XLFORMERS_CUDA_PLUGIN  | read by the addon: path of the CUDA plugin; empty: none                                    | beside the addon |
 * | XLFORMERS_CUBLASLT     | read by the CUDA plugin: path of libcublasLt; empty: none, the own kernels multiply        | searched for     |
 * | CUDA_HOME              | read by the CUDA plugin: a CUDA toolkit, where libcublasLt is looked for too               | none             |
 * | HF_HOME, HF_HUB_CACHE  | where models from the hub are kept, shared with Python's huggingface_hub                   | ~/.cache/huggingface |
 * | XDG_CACHE_HOME         | the folder above huggingface, where HF_HOME is not set                                     | ~/.cache         |
 * | HF_HUB_OFFLINE         | 1: only what is in that cache                                                              | downloads allowed |
 * | HF_TOKEN               | for models that are not public                                                             | none             |
 * | HF_ENDPOINT            | another hub                                                                                | the public one   |
 */
function variable(name: string): string | null {
  const value = process.env[name];
  return value === undefined || value === '' ? null : value;
}

/** The addon to load instead of the usual one. */
export function bindingPath(): string | null {
  return variable('XLFORMERS_BINDING');
}

/** The device when none is named. */
export function defaultDevice(): string {
  return variable('XLFORMERS_DEVICE') ?? 'auto';
}

/** Where the crash tests want the process to die, and how often that point is to be reached first. */
export function faultPoint(): { point: string; remaining: number } | null {
  const [point, count = '1'] = variable('XLFORMERS_FAULT')?.split(':') ?? [];
  return point === undefined ? null : { point, remaining: Number(count) };
}

/** The folder of the hub's cache, where Python's huggingface_hub looks too. */
export function hubCacheDirectory(): string {
  const cache = variable('XDG_CACHE_HOME') ?? path.join(os.homedir(), '.cache');
  return variable('HF_HUB_CACHE') ?? path.join(variable('HF_HOME') ?? path.join(cache, 'huggingface'), 'hub');
}

export function hubOffline(): boolean {
  return ['1', 'true', 'yes', 'on'].includes((variable('HF_HUB_OFFLINE') ?? '').toLowerCase());
}

export function hubToken(): string | null {
  return variable('HF_TOKEN');
}

export function hubEndpoint(): string {
  return variable('HF_ENDPOINT') ?? 'https://huggingface.co';
}
