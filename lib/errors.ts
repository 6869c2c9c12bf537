/**
 * Every code that an `XlformersError` may carry. Codes are stable: programs may switch on them; messages are for people.
 */
export const errorCodes = {
  // Arguments
  ERR_ARG_TYPE: 'an argument has the wrong type',
  ERR_ARG_RANGE: 'a number or a name is not among the allowed ones',
  ERR_ARG_SHAPE: 'sizes or shapes do not fit together',
  ERR_ARG_DATA:
    'the data handed over do not fit: wrong element type or length, detached, misaligned, sharing memory with a result',
  ERR_ARG_HANDLE: 'an object is not a tensor or device of this library, or belongs to another device or thread',
  ERR_DISPOSED: 'a tensor, model or session was used after it was disposed',
  ERR_TOKEN_ID: 'a token id is not an integer of the vocabulary',
  ERR_CONFIG: 'a configuration field is missing or has a value that makes no model or training run',
  ERR_AUTOGRAD: 'backward() was asked for where no gradient can be had',

  // Devices
  ERR_BINDING: 'the native addon is not built for this platform, or does not load',
  ERR_OUT_OF_MEMORY: 'the device or the host has not so much memory left',
  ERR_UNSUPPORTED: 'the backend lacks this operator or element type',
  ERR_DEVICE: 'the device cannot be had, or failed',
  ERR_CANCELLED: 'the operation was given up before it ran',
  ERR_RECORDING: 'something was asked for that cannot be part of a recording',
  ERR_INTERNAL: 'a mistake in this library: please report it',

  // Numbers
  ERR_NOT_FINITE: 'a value is NaN or infinite where training or a checkpoint needs finite ones',

  // Files and networks
  ERR_FILE_NOT_FOUND: 'a file or folder is not there',
  ERR_FILE_READ: 'a file cannot be read, or is shorter than it should be',
  ERR_FILE_WRITE: 'a file cannot be written',
  ERR_FILE_KIND: 'a path is not a regular file',
  ERR_PATH: 'a file name from outside points out of its folder',
  ERR_NETWORK: 'a download failed',

  // Checkpoints
  ERR_CHECKPOINT_MISMATCH: 'the checkpoint belongs to another model: tensors are missing, left over or of other shapes',
  ERR_CHECKPOINT_WRITE: 'a checkpoint cannot be written; earlier ones are untouched',
  ERR_CHECKPOINT_EXISTS: 'a checkpoint would be overwritten',
  ERR_CHECKPOINT_INDEX: 'the index of a checkpoint in several files is inconsistent',
  ERR_CHECKPOINT_FORMAT: 'the file is none of the known checkpoint formats',
  ERR_SAFETENSORS_HEADER_LENGTH: 'safetensors: the header length does not fit the file',
  ERR_SAFETENSORS_HEADER_LIMIT: 'safetensors: the header is larger or deeper than allowed',
  ERR_SAFETENSORS_HEADER_ENCODING: 'safetensors: the header is not UTF-8',
  ERR_SAFETENSORS_HEADER_JSON: 'safetensors: the header is not a JSON object',
  ERR_SAFETENSORS_DUPLICATE_KEY: 'safetensors: a key appears twice',
  ERR_SAFETENSORS_NAME: 'safetensors: a tensor has a forbidden name',
  ERR_SAFETENSORS_METADATA: 'safetensors: the metadata are not strings',
  ERR_SAFETENSORS_DTYPE: 'safetensors: unknown element type',
  ERR_SAFETENSORS_ENTRY: 'safetensors: a tensor has other fields than dtype, shape and data_offsets',
  ERR_SAFETENSORS_SHAPE: 'safetensors: a shape is not a list of sizes',
  ERR_SAFETENSORS_OVERFLOW: 'safetensors: a tensor is larger than a number can say',
  ERR_SAFETENSORS_OFFSETS: 'safetensors: offsets are no range inside the file',
  ERR_SAFETENSORS_SIZE: 'safetensors: offsets do not fit shape and element type',
  ERR_SAFETENSORS_COVERAGE: 'safetensors: tensors overlap or leave holes',
  ERR_ZIP: 'the zip archive is damaged or uses what checkpoints do not need',
  ERR_TORCH: 'the PyTorch file is damaged or holds what this library does not read',
  ERR_TORCH_LEGACY: 'the PyTorch file of the format before 1.6 is damaged',
  ERR_TORCH_STORAGE: 'PyTorch file: a tensor refers to a storage that is not there or has another size',
  ERR_TORCH_STRIDE: 'PyTorch file: a tensor reaches beyond its storage',
  ERR_TORCH_UNSUPPORTED: 'PyTorch file: sparse, quantized or otherwise unusual tensors',
  ERR_PICKLE_GLOBAL: 'the pickle asks for a class or function that is not on the list of harmless ones',
  ERR_PICKLE_OPCODE: 'the pickle uses an opcode that harmless files do not need',
  ERR_PICKLE_STACK: 'the pickle is inconsistent',
  ERR_PICKLE_LIMIT: 'the pickle is larger or deeper than allowed',
  ERR_PICKLE_TRUNCATED: 'the pickle ends early',

  // Tokenizers
  ERR_TOKENIZER_FILE: 'no tokenizer file that this library knows was found',
  ERR_TOKENIZER_PROTO: 'the SentencePiece model is damaged',
  ERR_TOKENIZER_UNSUPPORTED: 'the tokenizer uses a feature that this library does not run',
  ERR_TOKENIZER_ID: 'the tokenizer has missing, negative or duplicate ids',
  ERR_VOCAB: 'the vocabulary file is inconsistent',

  // Data
  ERR_DATA_FORMAT: 'a data file holds something that cannot be used',
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** The only error that this library throws by intention. `message` names the argument, what was given and what was expected. */
export class XlformersError extends Error {
  override readonly name = 'XlformersError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** `<name>: got <given>, expected <expected>` */
export function argumentError(code: ErrorCode, name: string, given: unknown, expected: string): XlformersError {
  return new XlformersError(code, `${name}: got ${describe(given)}, expected ${expected}`);
}

const longestQuote = 60;

/** A value in a few words, for messages. Runs no code of the value's own. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > longestQuote
        ? `'${value.slice(0, longestQuote)}…' (${value.length} characters)`
        : `'${value}'`;
    case 'bigint':
      return `${value}n`;
    case 'symbol':
      return 'a symbol';
    case 'function':
      return 'a function';
    case 'object':
      return value === null ? 'null' : describeObject(value);
    default:
      return Object.is(value, -0) ? '-0' : String(value);
  }
}

function describeObject(value: object): string {
  if (ArrayBuffer.isView(value)) {
    const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
    return kind === 'DataView' ? 'a DataView' : `${kind}(${value.byteLength / (bytesPerElement[kind] ?? 1)})`;
  }
  try {
    if (Array.isArray(value)) return `an array of length ${value.length}`;
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || prototype === Object.prototype) return 'an object';
    const constructor = Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value as unknown;
    const name: unknown = typeof constructor === 'function' ? constructor.name : '';
    return typeof name === 'string' && name !== '' && name !== 'Object' ? `an object of class ${name}` : 'an object';
  } catch {
    return 'an object'; // a proxy with other ideas
  }
}

const bytesPerElement: Record<string, number> = {
  Int16Array: 2,
  Uint16Array: 2,
  Int32Array: 4,
  Uint32Array: 4,
  Float32Array: 4,
  Float64Array: 8,
  BigInt64Array: 8,
  BigUint64Array: 8,
};
