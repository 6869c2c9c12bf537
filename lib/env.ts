import path from 'node:path';

/**
 * Environment variables, all of them. This is the only file of `lib/` that reads `process.env`.
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
 * | HF_HOME, HF_HUB_CACHE  | where models from the hub are kept, shared with Python's huggingface_hub                   | ~/.cache/huggingface |
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

/** The folder of the hub's cache; null: the usual one. */
export function hubCacheDirectory(): string | null {
  const home = variable('HF_HOME');
  return variable('HF_HUB_CACHE') ?? (home === null ? null : path.join(home, 'hub'));
}

export function hubOffline(): boolean {
  return ['1', 'true', 'yes', 'on'].includes((variable('HF_HUB_OFFLINE') ?? '').toLowerCase());
}

export function hubToken(): string | null {
  return variable('HF_TOKEN');
}

export function hubEndpoint(): string | null {
  return variable('HF_ENDPOINT');
}
