import { promises as fs } from 'node:fs';
import type { LogEntry } from './runState';

/** Append-only JSON lines; a resumed run cuts off what its checkpoint does not know, so no step appears twice. */
export class RunLog {
  private constructor(
    private readonly file: fs.FileHandle,
    private offset: number,
  ) {}

  /** @param bytes what to keep of an existing file */
  static async open(path: string, bytes: number): Promise<RunLog> {
    const file = await fs.open(path, 'a+');
    const { size } = await file.stat();
    const kept = Math.min(bytes, size);
    await file.truncate(kept);
    return new RunLog(file, kept);
  }

  get bytes(): number {
    return this.offset;
  }

  async append(entry: LogEntry): Promise<void> {
    const line = `${JSON.stringify(entry)}\n`;
    await this.file.appendFile(line);
    this.offset += Buffer.byteLength(line);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** The entries of a log; a line cut short by a crash is left out. */
export async function readRunLog(path: string): Promise<LogEntry[]> {
  const text = await fs.readFile(path, 'utf8').catch(() => '');
  const entries: LogEntry[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    try {
      entries.push(JSON.parse(line) as LogEntry);
    } catch {
      break;
    }
  }
  return entries;
}
