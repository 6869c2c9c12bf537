/**
 * Opens the weights in a file and reads them all, as a whole or piece by piece, then prints by how many bytes this process was larger
 * meanwhile, and the error if there was one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { XlformersError } from '../../../lib';
import { openFile } from '../../../lib/checkpoints/weights';

const [how, warmUp, file] = process.argv.slice(2) as ['read' | 'pieces', string, string];

async function readAll(path: string): Promise<void> {
  const weights = await openFile(path);
  try {
    for (const name of weights.tensors.keys()) {
      if (how === 'read') await weights.read(name);
      else for await (const piece of weights.pieces(name)) piece.fill(0);
    }
  } finally {
    await weights.close();
  }
}

async function main(): Promise<void> {
  // What the code itself takes.
  await readAll(warmUp);
  const before = resident('VmRSS');
  // Sets the peak to what is resident now (proc(5)).
  writeFileSync('/proc/self/clear_refs', '5');
  let error: string | null = null;
  try {
    await readAll(file);
  } catch (thrown) {
    if (!(thrown instanceof XlformersError)) throw thrown;
    error = thrown.code;
  }
  process.stdout.write(JSON.stringify({ bytes: resident('VmHWM') - before, error }));
}

/** In bytes: now, or at most since the peak was set. */
function resident(field: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes] =
    new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return 1024 * Number(kilobytes);
}

void main();
