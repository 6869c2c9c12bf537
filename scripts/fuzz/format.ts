import type { TestRandom } from '../../test/support/random';

/** One kind of file: where fuzzing starts, how it goes on, and what must hold. */
export interface Format {
  /** Sound files. */
  corpus(): Promise<Buffer[]>;
  /** A file that is nearly one of the corpus. */
  mutate(random: TestRandom, file: Buffer): Buffer;
  /**
   * Reads the file and looks at everything that it gives.
   * @param folder a place for files, which the cases of a run share
   * @throws XlformersError when the file is refused; anything else is a defect
   */
  check(file: Buffer, folder: string): Promise<void>;
}

/** @throws Error when a result is not what it must be */
export function requireBounds(holds: boolean, what: string): void {
  if (!holds) throw new Error(`out of bounds: ${what}`);
}
