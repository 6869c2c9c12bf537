/** What a PyTorch file's pickle says of tensors, in the zip format and in the older one. */
import { XlformersError } from '../errors';
import { type SafetensorsDType, dtypeBytes } from './safetensorsHeader';
import { type CallContext, PickleGlobal, type PickleObject, PickleTuple, type PickleValue } from './unpickle';

/** A block of memory that tensors look at. */
export interface TorchStorage extends PickleObject {
  kind: 'storage';
  key: string;
  dtype: SafetensorsDType;
  /** Elements. */
  size: number;
}

export interface TorchTensor extends PickleObject {
  kind: 'tensor';
  storage: TorchStorage;
  /** Elements before the first. */
  offset: number;
  shape: readonly number[];
  strides: readonly number[];
}

interface StorageType extends PickleGlobal {
  dtype: SafetensorsDType;
}

const storageTypes: Record<string, SafetensorsDType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

const maxDimensions = 8;
/** A tensor larger than this is a mistake or an attack. */
const maxElements = 2 ** 40;

const sizes = (value: PickleValue | undefined): number[] | null => {
  if (!(value instanceof PickleTuple) || value.items.length > maxDimensions) return null;
  const numbers = value.items.filter((item): item is number => typeof item === 'number' && Number.isSafeInteger(item));
  return numbers.length === value.items.length && numbers.every((item) => item >= 0) ? numbers : null;
};

function rebuildTensor(args: readonly PickleValue[], { fail }: CallContext): TorchTensor {
  const [storage, offset, shapeValue, strideValue, requiresGrad = false, hooks = null] = args;
  if (!isStorage(storage)) return fail('a tensor without a storage');
  if (typeof requiresGrad !== 'boolean' || (hooks !== null && !(hooks instanceof Map && hooks.size === 0))) {
    return fail(
      'a tensor with hooks, or with something else than a boolean for requires_grad',
      'ERR_TORCH_UNSUPPORTED',
    );
  }
  const shape = sizes(shapeValue);
  const strides = sizes(strideValue);
  if (!shape || !strides || shape.length !== strides.length) {
    return fail('a tensor whose sizes or strides are not as many integers >= 0', 'ERR_TORCH_STRIDE');
  }
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0) {
    return fail('a tensor whose offset is no integer >= 0', 'ERR_TORCH_STRIDE');
  }
  const elements = shape.reduce((product, size) => product * size, 1);
  const last = shape.reduce((sum, size, axis) => sum + (size - 1) * (strides[axis] as number), offset);
  if (elements > maxElements || (elements > 0 && last >= storage.size)) {
    return fail(`a tensor that reaches element ${last} of a storage of ${storage.size}`, 'ERR_TORCH_STRIDE');
  }
  // A stride of 0 shows one element many times: a small file must not become a large tensor.
  if (elements > storage.size) {
    return fail(`a tensor of ${elements} elements from a storage of ${storage.size}`, 'ERR_TORCH_STRIDE');
  }
  return { kind: 'tensor', storage, offset, shape, strides };
}

/** What PyTorch calls for tensors that this library has no use for. */
const unsupportedTensors = [
  'torch._utils _rebuild_sparse_tensor',
  'torch._utils _rebuild_sparse_csr_tensor',
  'torch._utils _rebuild_nested_tensor',
  'torch._utils _rebuild_qtensor',
  'torch._utils _rebuild_meta_tensor_no_storage',
  'torch._utils _rebuild_wrapper_subclass',
  'torch._utils _rebuild_device_tensor_from_numpy',
  'torch._utils _rebuild_parameter_with_state',
  'torch._tensor _rebuild_from_type_v2',
].map((key) => {
  const name = key.replace(' ', '.');
  const refuse = (_: unknown, { fail }: CallContext) =>
    fail(`'${name}' makes tensors that are not read here; save dense ones`, 'ERR_TORCH_UNSUPPORTED');
  return [key, new PickleGlobal(name, refuse)] as const;
});

/** The globals that PyTorch's checkpoints name. */
export const torchGlobals: ReadonlyMap<string, PickleGlobal> = new Map([
  ...Object.entries(storageTypes).map(
    ([name, dtype]) =>
      [`torch ${name}`, Object.assign(new PickleGlobal(`torch.${name}`), { dtype }) as PickleGlobal] as const,
  ),
  ...unsupportedTensors,
  ['torch._utils _rebuild_tensor', new PickleGlobal('torch._utils._rebuild_tensor', rebuildTensor)],
  ['torch._utils _rebuild_tensor_v2', new PickleGlobal('torch._utils._rebuild_tensor_v2', rebuildTensor)],
  [
    'torch._utils _rebuild_parameter',
    new PickleGlobal('torch._utils._rebuild_parameter', ([data], { fail }) =>
      isTensor(data) ? data : fail('a parameter without a tensor'),
    ),
  ],
  [
    'torch Size',
    new PickleGlobal('torch.Size', ([items], { fail }) =>
      items instanceof PickleTuple ? items : fail('a size that is no tuple'),
    ),
  ],
]);

/** The storage that a persistent id ('storage', type, key, location, elements, ...) names. */
export function storageOf(id: PickleValue, fail: (message: string) => never): TorchStorage {
  const [kind, type, key, , size, view] = id instanceof PickleTuple ? id.items : [];
  if (kind !== 'storage' || (id as PickleTuple).items.length > 6) {
    return fail("a persistent id that is not ('storage', type, key, location, size)");
  }
  if (!(type instanceof PickleGlobal) || !('dtype' in type)) return fail('a storage of an unknown type');
  if (typeof key !== 'string' || !/^[A-Za-z0-9_.-]{1,64}$/.test(key))
    return fail('a storage whose key is no short name');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return fail('a storage without a size');
  if (view !== undefined && view !== null) return fail('a storage that is a view of another');
  return { kind: 'storage', key, dtype: (type as StorageType).dtype, size };
}

/** Tensors of a state dict by name; also under the key that training scripts use for it. */
export function stateDict(file: string, root: PickleValue): Map<string, TorchTensor> {
  if (!(root instanceof Map)) {
    throw new XlformersError('ERR_TORCH', `${file}: holds no dictionary of tensors`);
  }
  let dictionary = root;
  // A dictionary may hold itself: one step down, no further.
  for (const key of ['state_dict', 'model_state_dict', 'model_state', 'model']) {
    const inner = root.get(key);
    if (!(inner instanceof Map)) continue;
    dictionary = inner;
    break;
  }
  const tensors = new Map<string, TorchTensor>();
  for (const [name, value] of dictionary) if (typeof name === 'string' && isTensor(value)) tensors.set(name, value);
  if (tensors.size === 0) throw new XlformersError('ERR_TORCH', `${file}: holds no tensors by name`);
  return tensors;
}

/** The elements of a tensor in row-major order, from the bytes that it spans (see `span`). */
export function gather({ shape, strides, storage }: TorchTensor, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const width = dtypeBytes[storage.dtype];
  const elements = shape.reduce((product, size) => product * size, 1);
  const out = new Uint8Array(elements * width);
  if (elements === 0) return out;
  // Trailing axes that lie as they should are copied as one run.
  let run = 1;
  let axis = shape.length;
  while (axis > 0 && (shape[axis - 1] === 1 || strides[axis - 1] === run)) {
    axis -= 1;
    run *= shape[axis] as number;
  }
  const index = new Array<number>(axis).fill(0);
  for (let to = 0; to < elements; to += run) {
    const from = index.reduce((sum, at, k) => sum + at * (strides[k] as number), 0);
    out.set(bytes.subarray(from * width, (from + run) * width), to * width);
    for (let k = axis - 1; k >= 0; k -= 1) {
      index[k] = (index[k] as number) + 1;
      if ((index[k] as number) < (shape[k] as number)) break;
      index[k] = 0;
    }
  }
  return out;
}

/** The part of its storage that a tensor spans, in elements. */
export function span({ shape, strides, offset }: TorchTensor): { begin: number; end: number } {
  if (shape.includes(0)) return { begin: offset, end: offset };
  const last = shape.reduce((sum, size, axis) => sum + (size - 1) * (strides[axis] as number), offset);
  return { begin: offset, end: last + 1 };
}

function isStorage(value: PickleValue | undefined): value is TorchStorage {
  return value !== null && typeof value === 'object' && 'kind' in value && value.kind === 'storage';
}

function isTensor(value: PickleValue | undefined): value is TorchTensor {
  return value !== null && typeof value === 'object' && 'kind' in value && value.kind === 'tensor';
}
