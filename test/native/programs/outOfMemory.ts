// Usage: (ulimit -v KILOBYTES; node -r ts-node/register/transpile-only outOfMemory.ts BYTES). Without BYTES, prints how much address
// space the process takes; with it, asks for so many bytes in several ways and prints the error of each.
import { readFileSync } from 'node:fs';
import { add, Tensor } from '../../../lib';
import { resolveDevice } from '../../../lib/device';

const bytes = Number(process.argv[2] ?? 0);

async function attempt(name: string, action: () => unknown): Promise<void> {
  try {
    await action();
    console.log(`${name}: done`);
  } catch (error) {
    const { name: kind, code, message } = error as { name: string; code?: string; message: string };
    console.log(`${name}: ${kind} ${code} ${message}`);
  }
}

async function main(): Promise<void> {
  const device = resolveDevice('cpu');
  // Threads and scratch memory are there before the limit is felt.
  const one = Tensor.full([1 << 16], 1, { device });
  const small = async () => {
    const sum = add(one, one);
    const [first] = await sum.data();
    sum.dispose();
    if (first !== 2) throw new Error(`got ${first}`);
  };
  await small();
  if (bytes === 0) {
    console.log(/VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
    return;
  }
  await attempt('zeros', () => Tensor.zeros([bytes / 4], { device }));
  // The device has room for it once, and the process none for a copy.
  const held = Tensor.zeros([Math.floor(bytes / 4 / 1.5)], { device });
  await attempt('add', () => add(held, held));
  await attempt('data', () => held.data());
  held.dispose();
  await attempt('small', small);
  console.log(`live bytes: ${device.memory().liveBytes - 4 * one.size}`);
}

void main();
