import { type TapeNode, backward, isGradEnabled } from './autograd';
import { type Device, type DeviceLike, resolveDevice } from './device';
import { type DType, type TypedArray, dtypeDetail, isDType, isFloat } from './dtype';
import { XlformersError, describe } from './errors';
import { native, type NativeBuffer } from './native';
import { keep, trackInScope } from './scope';

/** Options of tensor constructors. */
export interface TensorOptions {
  /** Default `'auto'`. */
  device?: DeviceLike;
  /** Default: that of the data; `'float32'` for nested arrays. */
  dtype?: DType;
  /** Whether `backward()` collects a gradient for it. Default false. */
  requiresGrad?: boolean;
}

export type NestedArray = readonly (number | bigint | NestedArray)[];

/** Data that `Tensor.from` takes. */
export type TensorData = TypedArray | BigInt64Array | NestedArray | number;

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
  /** The gradient that `backward()` left here, for leaves with `requiresGrad`. */
  grad: Tensor | null = null;
  /** @internal The operator that made it, while gradients may flow. */
  node: TapeNode | null = null;
  /** @internal Which output of that operator it is. */
  outputIndex = 0;
  /** @internal Raised whenever the contents change in place: what caches derived from weights check. */
  version = 0;
  private storage: Storage | null;

  /** @internal Use `Tensor.from`, `Tensor.zeros`, … */
  protected constructor(
    storage: Storage,
    shape: readonly number[],
    readonly dtype: DType,
    readonly requiresGrad: boolean = false,
  ) {
    this.storage = storage;
    this.shape = Object.freeze([...shape]);
    this.size = elementCount(shape);
    if (requiresGrad && !isFloat(dtype)) {
      storage.release();
      throw new XlformersError('ERR_ARG_TYPE', `requiresGrad: got dtype ${dtype}, expected float32 or float64`);
    }
    trackInScope(this);
  }

  /** Uninitialised memory, for an operator to write to. @internal */
  static empty(shape: readonly number[], dtype: DType, device: Device): Tensor {
    return new Tensor(allocate(shape, dtype, device), shape, dtype);
  }

  /**
   * A tensor with a copy of `data`: typed arrays keep their type (BigInt64Array becomes int32), nested arrays and numbers become
   * float32 unless `dtype` says otherwise.
   * @param shape default: the length of a typed array, the nesting of nested arrays.
   * @throws XlformersError ERR_ARG_SHAPE, ERR_ARG_DATA, ERR_ARG_RANGE, ERR_OUT_OF_MEMORY
   */
  static from(data: TensorData, shape?: readonly number[], options: TensorOptions = {}): Tensor {
    const device = resolveDevice(options.device);
    const { array, dtype, shape: dataShape } = toTypedArray(data, options.dtype);
    const finalShape = shape ?? dataShape;
    const size = elementCount(finalShape);
    if (size !== array.length) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `data: got ${array.length} elements, expected ${size} for shape [${finalShape.join(', ')}]`,
      );
    }
    const storage = allocate(finalShape, dtype, device);
    if (size > 0) native.upload(storage.handle, array);
    return new Tensor(storage, finalShape, dtype, options.requiresGrad);
  }

  static full(shape: readonly number[], value: number, options: TensorOptions = {}): Tensor {
    const dtype = options.dtype ?? 'float32';
    const device = resolveDevice(options.device);
    const storage = allocate(shape, dtype, device);
    const count = elementCount(shape);
    if (count > 0) native.fill({ dtype: dtypeDetail(dtype).native, count, value, out: storage.handle });
    return new Tensor(storage, shape, dtype, options.requiresGrad);
  }

  static zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
    return Tensor.full(shape, 0, options);
  }

  get device(): Device {
    return this.live().device;
  }

  get disposed(): boolean {
    return this.storage === null;
  }

  /** Whether gradients flow back through it. */
  get tracksGradient(): boolean {
    return this.requiresGrad || this.node !== null;
  }

  /** @internal The memory handle. @throws XlformersError ERR_DISPOSED */
  get buffer(): NativeBuffer {
    return this.live().handle;
  }

  /** @internal True when no other tensor looks at this memory, so that it may be changed in place. */
  get exclusive(): boolean {
    return !this.live().shared;
  }

  /** @internal The same memory under another shape, outside the tape; disposed on its own. */
  alias(shape: readonly number[] = this.shape): Tensor {
    if (elementCount(shape) !== this.size) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `shape: got [${shape.join(', ')}], expected ${this.size} elements as in [${this.shape.join(', ')}]`,
      );
    }
    return new Tensor(this.live().retain(), shape, this.dtype);
  }

  /** The same values, outside the tape. Shares memory. */
  detach(): Tensor {
    return this.alias();
  }

  /**
   * The values, in row-major order. Resolves when the queue has got here.
   * @throws XlformersError of the first operator that failed since the last read.
   */
  async data(): Promise<TypedArray> {
    const { bytes, array } = dtypeDetail(this.dtype);
    const target = new ArrayBuffer(this.size * bytes);
    const storage = this.live();
    if (this.size > 0) await native.read(storage.handle, target);
    return new array(target);
  }

  /**
   * Replaces the values, in the order of the queue.
   * @param data of this tensor's type and size, or the bytes of such an array
   */
  overwrite(data: TypedArray): void {
    const { bytes } = dtypeDetail(this.dtype);
    if (data.byteLength !== this.size * bytes) {
      throw new XlformersError('ERR_ARG_DATA', `data: got ${data.byteLength} bytes, expected ${this.size * bytes}`);
    }
    if (this.size > 0) native.upload(this.buffer, data);
    this.version += 1;
  }

  /** @internal Replaces the elements from `first` on. */
  overwritePart(first: number, data: TypedArray): void {
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
    backward(this, gradient);
  }

  /** Frees the memory when no other tensor looks at it. Harmless when repeated. */
  dispose(): void {
    const { storage } = this;
    if (storage === null) return;
    this.storage = null;
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

  private live(): Storage {
    if (this.storage === null) {
      throw new XlformersError('ERR_DISPOSED', `tensor of shape [${this.shape.join(', ')}]: it was disposed`);
    }
    return this.storage;
  }
}

/** A weight: a leaf that wants a gradient, under its checkpoint name. Scopes leave it alone; its module disposes it. */
export class Parameter extends Tensor {
  readonly name: string;

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

  override dispose(): void {
    this.zeroGrad();
    super.dispose();
  }
}

/** @internal Whether an operator with these inputs is to be recorded. */
export function needsTape(inputs: readonly (Tensor | null | undefined)[]): boolean {
  return isGradEnabled() && inputs.some((input) => input?.tracksGradient);
}

/** Number of elements of a shape. @throws XlformersError ERR_ARG_SHAPE when a size is no integer >= 0, or the product exceeds 2^53. */
export function elementCount(shape: readonly number[]): number {
  if (!Array.isArray(shape) || shape.length > 8) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: got ${describe(shape)}, expected an array of at most 8 sizes`);
  }
  let count = 1;
  for (let axis = 0; axis < shape.length; axis += 1) {
    const size: unknown = shape[axis];
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
      throw new XlformersError('ERR_ARG_SHAPE', `shape[${axis}]: got ${describe(size)}, expected an integer >= 0`);
    }
    count *= size;
  }
  if (!Number.isSafeInteger(count)) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: [${shape.join(', ')}] has more than 2^53 elements`);
  }
  return count;
}

function allocate(shape: readonly number[], dtype: DType, device: Device): Storage {
  if (!isDType(dtype)) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `dtype: got ${describe(dtype)}, expected float32, float64, int32 or uint8`,
    );
  }
  const bytes = elementCount(shape) * dtypeDetail(dtype).bytes;
  if (!Number.isSafeInteger(bytes)) {
    throw new XlformersError('ERR_ARG_SHAPE', `shape: [${shape.join(', ')}] needs more than 2^53 bytes`);
  }
  return new Storage(native.allocate(device.handle, bytes), device);
}

const arrayDTypes: Record<string, DType> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int32Array: 'int32',
  Uint8Array: 'uint8',
  Buffer: 'uint8',
};

function toTypedArray(data: TensorData, wanted?: DType): { array: TypedArray; dtype: DType; shape: number[] } {
  if (wanted !== undefined && !isDType(wanted)) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `dtype: got ${describe(wanted)}, expected float32, float64, int32 or uint8`,
    );
  }
  // Constructor names, not instanceof: arrays may come from another realm (vm contexts, test runners).
  if (ArrayBuffer.isView(data)) {
    const kind = data.constructor.name;
    const dtype = arrayDTypes[kind];
    if (dtype !== undefined && (wanted === undefined || wanted === dtype)) {
      return { array: data as TypedArray, dtype, shape: [(data as TypedArray).length] };
    }
    if (dtype === undefined && kind !== 'BigInt64Array') {
      throw new XlformersError(
        'ERR_ARG_DATA',
        `data: got ${kind}, expected Float32Array, Float64Array, Int32Array, Uint8Array, BigInt64Array or nested arrays`,
      );
    }
    const values = data as Exclude<TensorData, NestedArray | number>;
    return { ...convert(values, values.length, wanted ?? 'int32'), shape: [values.length] };
  }
  const shape: number[] = [];
  const flat: (number | bigint)[] = [];
  flatten(data, 0, shape, flat);
  return { ...convert(flat, flat.length, wanted ?? 'float32'), shape };
}

const integerRanges: Partial<Record<DType, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint8: [0, 255],
};

function convert(values: Iterable<number | bigint>, length: number, dtype: DType): { array: TypedArray; dtype: DType } {
  const { array: ArrayType, bytes } = dtypeDetail(dtype);
  const array = new ArrayType(new ArrayBuffer(length * bytes));
  const range = integerRanges[dtype];
  let index = 0;
  for (const value of values) {
    const number = Number(value);
    if (range && !(Number.isInteger(number) && number >= range[0] && number <= range[1])) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `data[${index}]: got ${describe(value)}, expected an integer in [${range[0]}, ${range[1]}] for ${dtype}`,
      );
    }
    array[index] = number;
    index += 1;
  }
  return { array, dtype };
}

function flatten(data: TensorData, depth: number, shape: number[], flat: (number | bigint)[]): void {
  if (typeof data === 'number' || typeof data === 'bigint') {
    if (depth !== shape.length) throw new XlformersError('ERR_ARG_SHAPE', 'data: nested arrays of unequal depth');
    flat.push(data);
    return;
  }
  if (!Array.isArray(data) || depth >= 8) {
    throw new XlformersError('ERR_ARG_DATA', `data: got ${describe(data)}, expected numbers in nested arrays`);
  }
  if (shape.length === depth && flat.length === 0) shape.push(data.length);
  if (shape[depth] !== data.length) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `data: nested arrays of unequal length at depth ${depth}: got ${data.length}, expected ${shape[depth]}`,
    );
  }
  for (let index = 0; index < data.length; index += 1) flatten(data[index] as TensorData, depth + 1, shape, flat);
}
