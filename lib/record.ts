import { type DeviceLike, resolveDevice } from './device';
import { XlformersError } from './errors';
import { native, type NativeRecording } from './native';
import { runNow, scope, type TensorContainer, tensorsIn } from './scope';

export interface RecordOptions {
  /** Where all of it runs. Default: that of tensors that name none. */
  device?: DeviceLike;
}

let recording = false;

/**
 * @internal For values that the host makes anew for each call: a recording would repeat one of them for ever.
 * @throws XlformersError ERR_RECORDING while a recording is made
 */
export function refuseWhileRecording(what: string): void {
  if (recording) throw new XlformersError('ERR_RECORDING', `${what} cannot be recorded: every replay would repeat it`);
}

/** Operators that were enqueued once and can be enqueued again by one call. */
export class Recording<T> implements TensorContainer {
  private readonly handle: NativeRecording;

  /** @internal */
  constructor(
    handle: NativeRecording,
    /** What the body returned. Its tensors are the caller's to dispose; each replay writes to them. */
    readonly outputs: T,
  ) {
    this.handle = handle;
  }

  /**
   * Enqueues everything once more, reading the same tensors and writing to the same tensors. New inputs are written before it, by
   * `overwrite` or by operators. Wrong data (an id outside its table) are told by the next read, as without a recording.
   * @throws XlformersError ERR_DISPOSED
   */
  replay(): void {
    native.replay(this.handle);
  }

  /** Gives the memory of everything in between free; the outputs stay. Replays that were enqueued still run. Harmless when repeated. */
  dispose(): void {
    native.dropRecording(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  *tensors(): Iterable<{ dispose(): void }> {
    yield* tensorsIn(this.outputs);
  }
}

/**
 * Runs `body` once, as without this call, and keeps the operators that it enqueued to be run again: natively a list that one call
 * enqueues, on CUDA a graph that one call launches. Tensors that the body makes and does not return are freed, as in `scope`; all
 * memory that it used stays the recording's until that is disposed.
 *
 * What runs is what this call of the body enqueued: branches, loops and numbers of JavaScript are fixed by it. So are the tensors that
 * it read: weights and memory are read anew by each replay, where they are.
 *
 * @example
 * const ids = Tensor.from(new Int32Array(8), [1, 8]);
 * using step = record(() => model.forward({ inputIds: ids, useMems: false }).lastHiddenState);
 * ids.overwrite(Int32Array.of(5, 3, 9, 1, 4, 4, 2, 7));
 * step.replay();
 * const states = await step.outputs.data();
 *
 * @throws XlformersError ERR_RECORDING for what cannot be repeated: data from the host (`Tensor.from`, ids given as arrays), reads,
 *   random numbers (dropout, sampling), an optimizer's step, operands on another device, a recording inside; ERR_ARG_TYPE when `body`
 *   returns a promise. What was enqueued before then runs once, and is not kept.
 */
export function record<T>(body: () => T, { device }: RecordOptions = {}): Recording<T> {
  refuseWhileRecording('record: another recording');
  native.beginRecording(resolveDevice(device).handle);
  recording = true;
  const end = (): NativeRecording => {
    recording = false;
    const handle = native.endRecording();
    native.replay(handle);
    return handle;
  };
  return scope(() => {
    let outputs: T;
    try {
      outputs = runNow('record', body);
    } catch (error) {
      native.dropRecording(end());
      throw error;
    }
    return new Recording(end(), outputs);
  });
}
