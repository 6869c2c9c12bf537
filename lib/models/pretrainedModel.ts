import { type Device, type DeviceLike, resolveDevice } from '../device';
import { type FloatDType, dtypeDetail, isDType, isFloat, isShortFloat } from '../dtype';
import { XlformersError, argumentError } from '../errors';
import { Parameters, withoutInitialValues } from '../nn/parameters';
import { Generator } from '../random';
import type { TensorContainer } from '../scope';
import type { Parameter, Tensor } from '../tensor';
import { type HubOptions, resolveFiles } from '../checkpoints/hub';
import { modelFiles } from '../checkpoints/hubContents';
import { type ConfigKeys, foreignKeys } from './configFile';
import { loadWeights } from './loadWeights';
import { type WeightTerms, requireMemory } from './memoryEstimate';
import { parsedConfig, readModelConfig, saveModel } from './pretrained';

export interface ModelOptions {
  /** Of the initial weights and of dropout. Default 1. */
  seed?: number;
  /** Default `'auto'`. */
  device?: DeviceLike;
  /**
   * Of the weights, and what the model computes in. Default `'float32'`; `'float64'` serves tests. `'bfloat16'` and `'float16'` need a
   * device that computes in them, which the CPU does not; they are for inference, while training has `precision`.
   */
  dtype?: FloatDType;
}

/** How a model is made from files: a folder, or a hub id with `revision`, `localFilesOnly`, `cacheDir`, `token`, `onProgress`, `signal`. */
export interface PretrainedOptions extends ModelOptions, HubOptions {
  /** Refuse weights that hold NaN or infinities. Default false. */
  checkFinite?: boolean;
}

export interface SaveOptions {
  dtype?: FloatDType;
}

/** A type that models have, on a device that computes in it. */
function requireModelType(name: string, dtype: FloatDType, device: Device): void {
  if (!isDType(dtype) || !isFloat(dtype)) {
    throw argumentError('ERR_ARG_TYPE', name, dtype, 'float32, float64, bfloat16 or float16');
  }
  if (device.computesIn(dtype)) return;
  throw new XlformersError(
    'ERR_UNSUPPORTED',
    `${name}: got ${dtype} on device ${device.name}, which does not compute in it; use float32, or a CUDA device`,
  );
}

/** What every model has, whatever its architecture: weights, mode, files. */
export abstract class PretrainedModel implements TensorContainer {
  /** The source of dropout masks. */
  generator: Generator;
  /** @internal */
  readonly weights: Parameters;
  private isTraining = false;
  /** What config.json held besides the model's own fields. */
  private foreign: Readonly<Record<string, unknown>> = {};

  protected constructor({ seed = 1, device, dtype = 'float32' }: ModelOptions) {
    const initial = new Generator(seed);
    const resolved = resolveDevice(device);
    requireModelType('dtype', dtype, resolved);
    this.weights = new Parameters(resolved, dtype, initial);
    this.generator = new Generator(seed, 2 ** 32);
  }

  get device(): Device {
    return this.weights.device;
  }

  /** What the model computes in: the type of its weights, unless `setPrecision` chose another. */
  get precision(): FloatDType {
    return this.weights.precision;
  }

  /**
   * Mixed precision: with 'bfloat16' or 'float16', a float32 model computes in 16 bits, on copies of its weights that are made anew
   * whenever those change; weights and their gradients stay float32. Memories of another precision do not fit afterwards. The
   * trainer's option `precision` calls this.
   * @throws XlformersError ERR_UNSUPPORTED where the device does not compute in it, ERR_CONFIG for weights of another type than float32
   */
  setPrecision(precision: FloatDType): void {
    requireModelType('precision', precision, this.device);
    const { dtype } = this.weights;
    if (precision !== dtype && !(dtype === 'float32' && isShortFloat(precision))) {
      throw new XlformersError(
        'ERR_CONFIG',
        `precision: got ${precision} for a model of ${dtype} weights, expected ${dtype}; load the model in float32 for 16-bit precision`,
      );
    }
    if (precision === this.precision) return;
    this.clearCache();
    this.weights.precision = precision;
  }

  get training(): boolean {
    return this.isTraining;
  }

  /** Weights by checkpoint name, tied ones once. */
  parameters(): ReadonlyMap<string, Parameter> {
    return this.weights.map;
  }

  *tensors(): Iterable<Tensor> {
    yield* this.weights.map.values();
  }

  /** Dropout on; what was cached for inference is dropped. */
  train(): void {
    this.isTraining = true;
    this.clearCache();
  }

  /** Dropout off. */
  eval(): void {
    this.isTraining = false;
  }

  /**
   * Writes config.json and model.safetensors, which Hugging Face's classes load as well. What the config.json that the model came from
   * said beyond its own fields is written back.
   * @param options dtype: of the file. Default: that of the weights
   * @throws XlformersError ERR_ARG_TYPE, ERR_FILE_WRITE
   */
  async save(directory: string, { dtype = this.weights.dtype }: SaveOptions = {}): Promise<void> {
    await saveModel(directory, this.weights, { ...this.foreign, ...this.configFile() }, dtype);
  }

  /** Frees weights, gradients and caches. */
  dispose(): void {
    this.clearCache();
    this.weights.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @throws XlformersError ERR_CONFIG when the device cannot hold the weights */
  protected requireMemory(terms: WeightTerms): void {
    requireMemory(terms, dtypeDetail(this.weights.dtype).bytes, this.device);
  }

  /** @internal Drops what was cached for inference. */
  abstract clearCache(): void;

  /** config.json. */
  protected abstract configFile(): Record<string, unknown>;

  /** Makes a model from config.json of a folder or hub id and fills its weights. */
  protected static async loadFolder<Config, Model extends PretrainedModel>(
    nameOrPath: string,
    options: PretrainedOptions,
    readConfig: (file: Record<string, unknown>) => Config,
    configKeys: ConfigKeys,
    make: (config: Config) => Model,
    prefix: string,
    optional?: (name: string) => boolean,
    replaced?: (name: string) => boolean,
  ): Promise<Model> {
    const directory = await resolveFiles(nameOrPath, modelFiles, options);
    const file = await readModelConfig(directory);
    const config = parsedConfig(directory, file, readConfig);
    const foreign = parsedConfig(directory, file, (given) => foreignKeys(given, configKeys));
    const model = withoutInitialValues(() => make(config));
    model.foreign = foreign;
    try {
      const { checkFinite, signal } = options;
      await loadWeights(directory, model.weights, { prefix, optional, replaced, checkFinite, signal });
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }
}
