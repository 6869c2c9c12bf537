import { promises as fs } from 'node:fs';
import { writeError } from '../checkpoints/atomicFile';
import { XlformersError } from '../errors';
import type { LogEntry } from './runState';

/**
 * Append-only JSON lines; a resumed run cuts off what its checkpoint does not know, so no step appears twice.
 * Every method throws XlformersError ERR_FILE_WRITE naming the file.
 */
export class RunLog {
  private constructor(
    private readonly path: string,
    private readonly file: fs.FileHandle,
    private offset: number,
  ) {}

  /** @param bytes what to keep of an existing file */
  static async open(path: string, bytes: number): Promise<RunLog> {
    return naming(path, async () => {
      const file = await fs.open(path, 'a+');
      try {
        const { size } = await file.stat();
        const kept = Math.min(bytes, size);
        await file.truncate(kept);
        return new RunLog(path, file, kept);
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  get bytes(): number {
    return this.offset;
  }

  async append(entry: LogEntry): Promise<void> {
    const line = `${JSON.stringify(entry)}\n`;
    await naming(this.path, () => this.file.appendFile(line));
    this.offset += Buffer.byteLength(line);
  }

  /** Makes what was appended durable. */
  async sync(): Promise<void> {
    await naming(this.path, () => this.file.sync());
  }

  async close(): Promise<void> {
    await naming(this.path, () => this.file.close());
  }
}

async function naming<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw writeError(path, error);
  }
}

/**
 * The entries of a log, none where there is no file; a line cut short by a crash is left out.
 * @throws XlformersError ERR_FILE_READ naming the file
 */
export async function readRunLog(path: string): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for (const line of (await readText(path)).split('\n')) {
    if (line === '') continue;
    try {
      entries.push(JSON.parse(line) as LogEntry);
    } catch {
      break;
    }
  }
  return entries;
}

async function readText(path: string): Promise<string> {
  try {
    return await fs.readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new XlformersError('ERR_FILE_READ', `${path}: cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
