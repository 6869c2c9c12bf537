import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';

/** Bytes after `xz -9`, by the program or Python's lzma module; null where there is neither. */
function xzSize(data: Uint8Array): number | null {
  const limits = { input: data, maxBuffer: 2 ** 30 };
  const python = 'import lzma, sys; sys.stdout.buffer.write(lzma.compress(sys.stdin.buffer.read(), preset=9))';
  for (const [command, ...options] of [
    ['xz', '-9', '-c'],
    ['python3', '-c', python],
  ] as [string, ...string[]][]) {
    const { status, stdout } = spawnSync(command, options, limits);
    if (status === 0) return stdout.length;
  }
  return null;
}

/**
 * What general compressors need for a text when they know another: size(known + text) - size(known), in bits per byte of the text.
 */
export function conditionalBitsPerByte(known: Uint8Array, text: Uint8Array): { name: string; bits: number | null }[] {
  const both = Buffer.concat([known, text]);
  const sizes: [name: string, size: (data: Uint8Array) => number | null][] = [
    ['gzip -9', (data) => gzipSync(data, { level: 9 }).length],
    ['xz -9', xzSize],
  ];
  return sizes.map(([name, size]) => {
    const [whole, part] = [size(both), size(known)];
    return { name, bits: whole === null || part === null ? null : (8 * (whole - part)) / text.length };
  });
}
