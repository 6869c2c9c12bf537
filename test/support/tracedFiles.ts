/**
 * Records what a program does to files below a folder, through `fs.promises`, and says what a power cut after any of these operations may
 * leave: data that was not synced is lost, and so are names whose folder was not synced, or none of these, or removals only.
 */
import { promises as fs } from 'node:fs';
import path from 'node:path';

/** A file's or folder's life, whatever its names. */
interface Inode {
  /** null: a folder. */
  data: Buffer | null;
  synced: Buffer;
  entries: Map<string, Inode>;
  syncedEntries: Map<string, Inode>;
}

export interface Operation {
  kind: 'open' | 'write' | 'truncate' | 'sync' | 'rename' | 'remove' | 'mkdir';
  /** Below the folder; of a rename, from and to. */
  path: string;
  to?: string;
}

/** What a power cut leaves: contents by path; null is a folder. */
export type Remains = Map<string, Buffer | null>;

const newFile = (): Inode => ({
  data: Buffer.alloc(0),
  synced: Buffer.alloc(0),
  entries: new Map(),
  syncedEntries: new Map(),
});
const newFolder = (): Inode => ({ ...newFile(), data: null });

export class TracedFiles {
  readonly operations: Operation[] = [];
  /** By operation: what a power cut right after it may leave. */
  readonly remains: Remains[][] = [];
  /** Called before an operation; throws to let it fail. */
  inject: ((operation: Operation) => void) | null = null;
  private readonly top: Inode = newFolder();
  private readonly spies: jest.SpyInstance[] = [];

  /** @param folder empty or not there yet */
  constructor(private readonly folder: string) {
    const real = { open: fs.open, rename: fs.rename, rm: fs.rm, mkdir: fs.mkdir };
    const relative = (file: unknown) => path.relative(folder, path.resolve(String(file)));
    const outside = (name: string) => name.startsWith('..');

    this.spy('open', async (file, flags = 'r', mode) => {
      const name = relative(file);
      const writes = /[wa+]/.test(String(flags));
      if (outside(name)) return real.open(file as string, flags as string, mode as number);
      if (writes) this.before({ kind: 'open', path: name });
      const handle = await real.open(file as string, flags as string, mode as number);
      if (writes) {
        const inode = this.find(name) ?? this.put(name, newFile());
        if (String(flags).startsWith('w')) inode.data = Buffer.alloc(0);
        this.record({ kind: 'open', path: name });
      }
      return this.traced(handle, name);
    });
    this.spy('mkdir', async (file, options) => {
      const name = relative(file);
      if (!outside(name)) this.before({ kind: 'mkdir', path: name });
      const result = await real.mkdir(file as string, options as object);
      if (!outside(name) && name !== '' && !this.find(name)) {
        this.put(name, newFolder());
        this.record({ kind: 'mkdir', path: name });
      }
      return result;
    });
    this.spy('rename', async (from, to) => {
      const names = { path: relative(from), to: relative(to) };
      this.before({ kind: 'rename', ...names });
      await real.rename(from as string, to as string);
      const inode = this.find(names.path) as Inode;
      this.parent(names.path).entries.delete(path.basename(names.path));
      this.put(names.to, inode);
      this.record({ kind: 'rename', ...names });
    });
    this.spy('rm', async (file, options) => {
      const name = relative(file);
      const there = this.find(name) !== undefined;
      if (there) this.before({ kind: 'remove', path: name });
      await real.rm(file as string, options as object);
      if (there) {
        this.parent(name).entries.delete(path.basename(name));
        this.record({ kind: 'remove', path: name });
      }
    });
  }

  restore(): void {
    for (const spy of this.spies) spy.mockRestore();
  }

  private spy(name: 'open' | 'rename' | 'rm' | 'mkdir', replacement: (...args: unknown[]) => Promise<unknown>): void {
    this.spies.push(jest.spyOn(fs, name).mockImplementation(replacement as never));
  }

  private before(operation: Operation): void {
    this.inject?.(operation);
  }

  private traced(handle: fs.FileHandle, name: string): fs.FileHandle {
    const inode = this.find(name);
    if (!inode) return handle;
    const contents = async (kind: 'write' | 'truncate', work: () => Promise<unknown>) => {
      this.before({ kind, path: name });
      const result = await work();
      inode.data = await fs.readFile(path.join(this.folder, this.nameOf(inode)));
      this.record({ kind, path: name });
      return result;
    };
    const { write, writeFile, appendFile, truncate, sync } = handle;
    Object.assign(handle, {
      write: (...args: unknown[]) =>
        contents('write', () => (write as (...given: unknown[]) => Promise<unknown>).apply(handle, args)),
      writeFile: (data: string) => contents('write', () => writeFile.call(handle, data)),
      appendFile: (data: string) => contents('write', () => appendFile.call(handle, data)),
      truncate: (length: number) => contents('truncate', () => truncate.call(handle, length)),
      sync: async () => {
        this.before({ kind: 'sync', path: name });
        await sync.call(handle);
        if (inode.data) inode.synced = inode.data;
        else inode.syncedEntries = new Map(inode.entries);
        this.record({ kind: 'sync', path: name });
      },
    });
    return handle;
  }

  private find(name: string): Inode | undefined {
    let inode: Inode | undefined = this.top;
    for (const part of name === '' ? [] : name.split(path.sep)) inode = inode?.entries.get(part);
    return inode;
  }

  private parent(name: string): Inode {
    const folder = path.dirname(name);
    return this.find(folder === '.' ? '' : folder) as Inode;
  }

  private put(name: string, inode: Inode): Inode {
    this.parent(name).entries.set(path.basename(name), inode);
    return inode;
  }

  private nameOf(wanted: Inode, folder = this.top, prefix = ''): string {
    for (const [name, inode] of folder.entries) {
      if (inode === wanted) return path.join(prefix, name);
      const below = inode.data === null ? this.nameOf(wanted, inode, path.join(prefix, name)) : '';
      if (below !== '') return below;
    }
    return '';
  }

  private record(operation: Operation): void {
    this.operations.push(operation);
    const synced = (inode: Inode) => inode.syncedEntries;
    const current = (inode: Inode) => inode.entries;
    // A removal may be durable at once where what replaces it is not.
    const surviving = (inode: Inode) =>
      new Map([...inode.syncedEntries].filter(([, entry]) => this.nameOf(entry) !== ''));
    this.remains.push([synced, current, surviving].map((entries) => collect(this.top, entries)));
  }
}

function collect(
  folder: Inode,
  entries: (inode: Inode) => Map<string, Inode>,
  prefix = '',
  found: Remains = new Map(),
): Remains {
  for (const [name, inode] of entries(folder)) {
    const file = path.join(prefix, name);
    found.set(file, inode.data === null ? null : inode.synced);
    if (inode.data === null) collect(inode, entries, file, found);
  }
  return found;
}
