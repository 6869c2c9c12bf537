import { type TapeNode, backward, isGradEnabled } from './autograd';
import { type Device, type DeviceLike, resolveDevice } from './device';
import { type DType, type StoredArray, type TypedArray, dtypeDetail, isFloat, valuesOf } from './dtype';
import { XlformersError, argumentError, describe } from './errors';
import { native, type NativeBuffer } from './native';
import { nearest } from './options';
import { keep, trackInScope } from './scope';
import { type TensorData, dataOfType, flattenData, hostMemory, requireDType } from './tensorData';

/** Options of tensor constructors. */
export interface TensorOptions {
  /** Default `'auto'`. */
  device?: DeviceLike;
  /** Default: that of the data; `'float32'` for nested arrays. */
  dtype?: DType;
  /** Whether `backward()` collects a gradient for it. Default false. */
  requiresGrad?: boolean;
}

/** Device memory shared by the tensors that look at it; freed with the last of them. */
class Storage {
  private references = 1;

  constructor(
    readonly handle: NativeBuffer,
    readonly device: Device,
  ) {}

  get shared(): boolean {
    return this.references > 1;
  }

  retain(): this {
    this.references += 1;
    return this;
  }

  release(): void {
    this.references -= 1;
    if (this.references === 0) native.release(this.handle);
  }
}

/**
 * A dense array on a device. Operators return at once with tensors that will hold the result when the device's queue has got there;
 * `data()` waits without blocking. Free tensors by `dispose()`, `using` or `scope()`; the garbage collector is only the net.
 */
export class Tensor {
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** The gradient that `backward()` left here, for leaves with `requiresGrad`: a tensor of its own, disposed on its own. */
  grad: Tensor | null = null;
  /** @internal The operator that made it, while gradients may flow. */
  node: TapeNode | null = null;
  /** @internal Which output of that operator it is. */
  outputIndex = 0;
  /** @internal Raised whenever the contents change in place: what caches derived from weights check. */
  version = 0;
  /** A private name: what merely looks like a tensor, or inherits from one, has none. */
  #storage: Storage | null;

  /** @internal Use `Tensor.from`, `Tensor.zeros`, … */
  protected constructor(
    storage: Storage,
    shape: readonly number[],
    readonly dtype: DType,
    readonly requiresGrad: boolean = false,
  ) {
    if (!(storage instanceof Storage)) {
      throw new XlformersError(
        'ERR_ARG_HANDLE',
        'Tensor: not to be constructed; use Tensor.from, Tensor.zeros or Tensor.full',
      );
    }
    this.#storage = storage;
    this.shape = Object.freeze([...shape]);
    this.size = elementCount(shape);
    trackInScope(this);
  }

  /** Uninitialised memory, for an operator to write to. @internal */
  static empty(shape: readonly number[], dtype: DType, device: Device): Tensor {
    const own = ownShape(shape);
    return new Tensor(allocate(own, dtype, device), own, dtype);
  }

  /**
   * A tensor with a copy of `data`: typed arrays keep their type (BigInt64Array becomes int32), nested arrays and numbers become
   * float32 unless `dtype` says otherwise. 'bfloat16' and 'float16' take any numbers, rounded to nearest, ties to even; what is too
   * large becomes infinite.
   * @param shape default: the length of a typed array, the nesting of nested arrays.
   * @throws XlformersError ERR_ARG_TYPE, ERR_ARG_SHAPE, ERR_ARG_DATA, ERR_ARG_RANGE, ERR_DEVICE, ERR_OUT_OF_MEMORY
   */
  static from(data: TensorData, shape?: readonly number[], options: TensorOptions = {}): Tensor {
    const { device, dtype: wanted, requiresGrad } = checkedOptions(options);
    const { array, dtype, shape: dataShape } = flattenData(data, wanted);
    const own = shape === undefined ? dataShape : ownShape(shape);
    const size = elementCount(own);
    if (size !== array.length) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `data: got ${array.length} elements, expected ${size} for shape [${own.join(', ')}]`,
      );
    }
    return Tensor.written(own, dtype, device, requiresGrad, (handle) => native.upload(handle, array));
  }

  /** @throws XlformersError as `from`; ERR_ARG_RANGE when the dtype cannot hold the value */
  static full(shape: readonly number[], value: number, options: TensorOptions = {}): Tensor {
    const { device, dtype = 'float32', requiresGrad } = checkedOptions(options);
    requireDType(dtype);
    const own = ownShape(shape);
    const count = elementCount(own);
    const kind = dtypeDetail(dtype).native;
    return Tensor.written(own, dtype, device, requiresGrad, (out) => native.fill({ dtype: kind, count, value, out }));
  }

  static zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
    return Tensor.full(shape, 0, options);
  }

  /** Memory that `write` fills; given back when it refuses. */
  private static written(
    shape: readonly number[],
    dtype: DType,
    device: Device,
    requiresGrad: boolean,
    write: (handle: NativeBuffer) => void,
  ): Tensor {
    if (requiresGrad && !isFloat(dtype)) {
      throw new XlformersError('ERR_ARG_TYPE', `requiresGrad: got dtype ${dtype}, expected a floating type`);
    }
    const storage = allocate(shape, dtype, device);
    try {
      write(storage.handle);
    } catch (error) {
      storage.release();
      throw error;
    }
    return new Tensor(storage, shape, dtype, requiresGrad);
  }

  get device(): Device {
    return liveStorage(this).device;
  }

  get disposed(): boolean {
    return Tensor.storageOf(this) === null;
  }

  /** Whether gradients flow back through it. */
  get tracksGradient(): boolean {
    return this.requiresGrad || this.node !== null;
  }

  /** @internal The memory handle. @throws XlformersError ERR_DISPOSED */
  get buffer(): NativeBuffer {
    return liveStorage(this).handle;
  }

  /** @internal True when no other tensor looks at this memory, so that it may be changed in place. */
  get exclusive(): boolean {
    return !liveStorage(this).shared;
  }

  /** @internal The same memory under another shape, outside the tape; disposed on its own. */
  alias(shape?: readonly number[]): Tensor {
    const storage = liveStorage(this);
    const own = shape === undefined ? this.shape : ownShape(shape);
    if (elementCount(own) !== this.size) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `shape: got [${own.join(', ')}], expected ${this.size} elements as in [${this.shape.join(', ')}]`,
      );
    }
    return new Tensor(storage.retain(), own, this.dtype);
  }

  /** The same values, outside the tape. Shares memory. */
  detach(): Tensor {
    return this.alias();
  }

  /**
   * The values, in row-major order. Resolves when the queue has got here. Those of bfloat16 and float16 come as a Float32Array, which
   * holds them exactly.
   * @throws XlformersError of the first operator that failed since the last read.
   */
  async data(): Promise<TypedArray> {
    const { buffer } = await readBytes(liveStorage(this), this);
    const { dtype } = this;
    return valuesOf(new (dtypeDetail(dtype).array)(buffer), dtype);
  }

  /** @internal The values as they lie in memory. */
  bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return readBytes(liveStorage(this), this);
  }

  /**
   * Replaces the values, in the order of the queue.
   * @param data of this tensor's type and size (bfloat16 and float16: a Float32Array, to be rounded), or the bytes of such an array
   */
  overwrite(data: TypedArray): void {
    const { handle } = liveStorage(this);
    const { bytes } = dtypeDetail(this.dtype);
    const array = dataOfType(data, this.dtype);
    if (array.byteLength !== this.size * bytes) {
      throw new XlformersError('ERR_ARG_DATA', `data: got ${array.byteLength} bytes, expected ${this.size * bytes}`);
    }
    native.upload(handle, array);
    this.version += 1;
  }

  /** @internal Replaces the elements from `first` on. */
  overwritePart(first: number, data: StoredArray): void {
    const part = native.view(this.buffer, first * dtypeDetail(this.dtype).bytes, data.byteLength);
    try {
      native.upload(part, data);
    } finally {
      native.release(part);
    }
    this.version += 1;
  }

  /** The only element of a one-element tensor. */
  async item(): Promise<number> {
    liveStorage(this);
    if (this.size !== 1) {
      throw new XlformersError('ERR_ARG_SHAPE', `item: got shape [${this.shape.join(', ')}], expected one element`);
    }
    return (await this.data())[0] as number;
  }

  /**
   * Adds d(this)/d(leaf) to `grad` of every leaf with `requiresGrad`, and frees what the tape kept.
   * @param gradient of the final quantity with respect to this tensor; default 1 for a one-element tensor.
   * @throws XlformersError ERR_AUTOGRAD when there is no tape, or it was used already.
   */
  backward(gradient?: Tensor): void {
    liveStorage(this);
    backward(this, gradient);
  }

  /** Frees the memory when no other tensor looks at it. Harmless when repeated. */
  dispose(): void {
    const storage = Tensor.storageOf(this);
    if (storage === null) return;
    this.#storage = null;
    this.node?.release();
    this.node = null;
    storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype} [${this.shape.join(', ')}]${this.disposed ? ', disposed' : ''})`;
  }

  /** @internal Null when disposed. @throws XlformersError ERR_ARG_HANDLE for what was not made by this class */
  static storageOf(tensor: Tensor): Storage | null {
    if (typeof tensor !== 'object' || tensor === null || !(#storage in tensor)) {
      throw argumentError('ERR_ARG_HANDLE', 'this', tensor, 'a tensor that this library made');
    }
    return tensor.#storage;
  }
}

function liveStorage(tensor: Tensor): Storage {
  const storage = Tensor.storageOf(tensor);
  if (storage === null) {
    throw new XlformersError('ERR_DISPOSED', `tensor of shape [${tensor.shape.join(', ')}]: it was disposed`);
  }
  return storage;
}

async function readBytes(storage: Storage, { size, dtype }: Tensor): Promise<Uint8Array<ArrayBuffer>> {
  const target = hostMemory(size * dtypeDetail(dtype).bytes);
  if (size > 0) await native.read(storage.handle, target);
  return new Uint8Array(target);
}

/** A weight: a leaf that wants a gradient, under its checkpoint name. Scopes leave it alone; its module disposes it. */
export class Parameter extends Tensor {
  readonly name: string;
  /** @internal The weight in the type that operators compute with, where that is another one (nn/workingCopy.ts). */
  workingCopy: Tensor | null = null;

  private constructor(storage: Storage, shape: readonly number[], dtype: DType, name: string) {
    super(storage, shape, dtype, true);
    this.name = name;
  }

  /** @internal Uninitialised. */
  static create(name: string, shape: readonly number[], dtype: DType, device: Device): Parameter {
    return keep(new Parameter(allocate(shape, dtype, device), shape, dtype, name));
  }

  /** Forgets the gradient. */
  zeroGrad(): void {
    this.grad?.dispose();
    this.grad = null;
  }

  /** @internal Frees the working copy. */
  dropWorkingCopy(): void {
    this.workingCopy?.dispose();
    this.workingCopy = null;
  }

  override dispose(): void {
    this.zeroGrad();
    this.dropWorkingCopy();
    super.dispose();
  }
}

/** @internal Whether an operator with these inputs is to be recorded. */
export function needsTape(inputs: readonly (Tensor | null | undefined)[]): boolean {
  return isGradEnabled() && inputs.some((input) => input?.tracksGradient);
}

/** Number of elements of a shape. @throws XlformersError ERR_ARG_SHAPE when a size is no integer >= 0, or the product exceeds 2^53. */
function elementCount(shape: readonly number[]): number {
  let count = 1;
  // Of the sizes that are not 0: operators multiply some of them, and none of those products may overflow either.
  let sizes = 1;
  for (const [axis, size] of shape.entries()) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new XlformersError('ERR_ARG_SHAPE', `shape[${axis}]: got ${describe(size)}, expected an integer >= 0`);
    }
    count *= size;
    sizes *= size || 1;
  }
  if (!Number.isSafeInteger(sizes)) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: [${shape.join(', ')}] has more than 2^53 elements`);
  }
  return count;
}

/** A copy of a shape from outside, each size read once: getters and proxies cannot change it between check and use. */
function ownShape(shape: readonly number[]): number[] {
  const rank: unknown = Array.isArray(shape) ? shape.length : null;
  if (typeof rank !== 'number' || !(rank <= 8)) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: got ${describe(shape)}, expected an array of at most 8 sizes`);
  }
  return Array.from({ length: rank }, (_, axis) => {
    const size = shape[axis] as number;
    return size === 0 ? 0 : size; // not -0
  });
}

function allocate(shape: readonly number[], dtype: DType, device: Device): Storage {
  requireDType(dtype);
  const bytes = elementCount(shape) * dtypeDetail(dtype).bytes;
  if (!Number.isSafeInteger(bytes)) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: [${shape.join(', ')}] needs more than 2^53 bytes`);
  }
  return new Storage(native.allocate(device.handle, bytes), device);
}

const optionNames = ['device', 'dtype', 'requiresGrad'];

function checkedOptions(options: TensorOptions): { device: Device; dtype?: DType; requiresGrad: boolean } {
  if (options === null || typeof options !== 'object') {
    throw argumentError('ERR_ARG_TYPE', 'options', options, 'an object');
  }
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const close = nearest(name, optionNames) ?? optionNames.join(', ');
    throw new XlformersError('ERR_ARG_TYPE', `options: '${name}' is none; did you mean ${close}?`);
  }
  const { device, dtype, requiresGrad = false } = options;
  if (typeof requiresGrad !== 'boolean') {
    throw argumentError('ERR_ARG_TYPE', 'requiresGrad', requiresGrad, 'true or false');
  }
  return { device: resolveDevice(device), dtype, requiresGrad };
}
