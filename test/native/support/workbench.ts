/** Buffers for calls of operators, and calls that the compiler would not let pass. */
import { native, type NativeBuffer, type NativeDevice, type NativeOperators } from '../../../lib/native';

export type OperatorName = keyof NativeOperators;

export type Options = Record<string, unknown>;

/** Allocates buffers of exactly the bytes asked for, so that one element more is one too many. */
export class Workbench {
  readonly device: NativeDevice = native.openDevice('cpu', 0);
  private readonly buffers: NativeBuffer[] = [];

  bytes(count: number): NativeBuffer {
    const buffer = native.allocate(this.device, count);
    this.buffers.push(buffer);
    return buffer;
  }

  /** float32, filled with values in (0, 1]. */
  floats(count: number): NativeBuffer {
    const buffer = this.bytes(4 * count);
    native.upload(buffer, Float32Array.from({ length: count }, (_, index) => 1 / (1 + (index % 7))));
    return buffer;
  }

  ids(values: readonly number[]): NativeBuffer {
    const buffer = this.bytes(4 * values.length);
    native.upload(buffer, Int32Array.from(values));
    return buffer;
  }

  async read(buffer: NativeBuffer, count: number): Promise<Float32Array> {
    const target = new ArrayBuffer(4 * count);
    await native.read(buffer, target);
    return new Float32Array(target);
  }

  releaseAll(): void {
    for (const buffer of this.buffers.splice(0)) native.release(buffer);
  }
}

/** Calls without the compiler's checks. */
export function call(name: OperatorName, options: unknown): void {
  (native[name] as (given: unknown) => void)(options);
}

/** The code of the XlformersError that `action` throws, or null when it throws none. */
export function codeOf(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if ((error as Error).name !== 'XlformersError') throw error;
    return (error as { code: string }).code;
  }
}
