import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';

/** A case as the reference worker understands it. */
export type RivalCase =
  | { kind: 'load'; directory: string }
  | { kind: 'train' | 'forward'; batch: number; target: number; memory: number }
  | { kind: 'attention'; length: number; heads: number; headDim: number }
  | { kind: 'xlnetForward'; batch: number; length: number }
  | { kind: 'xlnetTrain'; batch: number; length: number; targets: number };

export interface RivalMeasure {
  milliseconds: number;
  /** Growth of the process's peak memory during the case. */
  peakRiseBytes: number;
}

/** glibc told to keep freed pages: no page faults for every large temporary, which makes eager PyTorch up to 1.75 times faster. */
const keepPages = {
  MALLOC_MMAP_THRESHOLD_: '4294967296',
  MALLOC_TRIM_THRESHOLD_: '4294967296',
  MALLOC_TOP_PAD_: '268435456',
};

/** PyTorch as it is, with glibc keeping freed pages, or compiled; and ONNX Runtime. The last two have kept pages as well. */
const modes = {
  eager: { name: 'PyTorch eager', keepsPages: false, onlyXLNetForward: false },
  'kept-pages': { name: 'PyTorch, kept pages', keepsPages: true, onlyXLNetForward: false },
  compiled: { name: 'torch.compile', keepsPages: true, onlyXLNetForward: true },
  onnxruntime: { name: 'ONNX Runtime', keepsPages: true, onlyXLNetForward: true },
} as const;

export type RivalMode = keyof typeof modes;

/** A Python with torch, from --python, XLFORMERS_PYTHON or the path; null with the reason when there is none. */
export function findPython(given: string | undefined): { python: string } | { reason: string } {
  const candidates = [given ?? process.env.XLFORMERS_PYTHON ?? [], 'python3'].flat();
  for (const python of candidates) {
    if (python.includes('/') && !existsSync(python)) continue;
    const probe = spawnSync(python, ['-c', 'import torch, transformers.models.deprecated.transfo_xl'], {
      timeout: 120_000,
    });
    if (probe.status === 0) return { python };
  }
  return { reason: 'no Python with torch and transformers 4.57 was found; name one with --python or XLFORMERS_PYTHON' };
}

/** A process that runs cases on request, so that both sides take turns on the same machine. */
export class Rival {
  private readonly answers: AsyncIterator<string>;
  private readonly lines: Interface;
  /** The end of what it wrote to its error output. */
  private complaint = '';

  private constructor(
    private readonly mode: (typeof modes)[RivalMode],
    private readonly child: ChildProcessWithoutNullStreams,
  ) {
    this.lines = createInterface({ input: child.stdout });
    this.answers = this.lines[Symbol.asyncIterator]();
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.complaint = `${this.complaint}${text}`.slice(-2000);
    });
  }

  get name(): string {
    return this.mode.name;
  }

  static async start(python: string, threads: number, mode: RivalMode): Promise<Rival> {
    const script = path.join(__dirname, '..', 'reference', 'bench_worker.py');
    const env = { ...process.env, OMP_NUM_THREADS: String(threads), ...(modes[mode].keepsPages ? keepPages : {}) };
    const rival = new Rival(modes[mode], spawn(python, [script, String(threads), mode], { env }));
    await rival.read();
    return rival;
  }

  /** Compiled graphs are made for forward passes of fixed shapes. */
  takesPart({ kind }: RivalCase): boolean {
    return !this.mode.onlyXLNetForward || kind === 'xlnetForward';
  }

  async run(request: RivalCase): Promise<RivalMeasure> {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    return JSON.parse(await this.read()) as RivalMeasure;
  }

  stop(): void {
    this.lines.close();
    this.child.kill();
  }

  private async read(): Promise<string> {
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`${this.name}: the process ended\n${this.complaint}`);
    return value;
  }
}
