import { requireFinite } from '../checkpoints/finite';
import { toFloat32 } from '../checkpoints/safetensors';
import { floatTypes, type SafetensorsDType } from '../checkpoints/safetensorsHeader';
import { openWeights, type WeightsFile } from '../checkpoints/weights';
import { dtypeDetail, type FloatDType, isShortFloat, type StoredArray, toShortFloat } from '../dtype';
import { XlformersError } from '../errors';
import type { Parameters } from '../nn/parameters';
import type { Parameter } from '../tensor';
import { huggingFaceName } from './originalCheckpoints';

/** Weights of heads, outside the prefix `transformer.`. */
const heads =
  /^(crit|score|lm_loss|sequence_summary|logits_proj|classifier|qa_outputs|start_logits|end_logits|answer_class)\./;

/** Names that checkpoints carry and that are no weights: position frequencies, which are computed. */
const computed = /(^|\.)pos_emb\.inv_freq$/;

/** Bytes handed to the device before it is waited for: what its queue holds beside the weights. */
const queuedBytes = 8 * 2 ** 20;

export interface LoadOptions {
  /** What names of the bare model start with in this class: '' or 'transformer.'. */
  prefix: string;
  /** Names that may be missing (the head of a freshly made classifier). */
  optional?: ((name: string) => boolean) | undefined;
  /** Names whose weights keep their initial values where the checkpoint has another shape (a head for other labels). */
  replaced?: ((name: string) => boolean) | undefined;
  /** Refuse NaN and infinities. Default false. */
  checkFinite?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Fills the parameters from the folder's weights, safetensors or PyTorch's files. Names may lack or have the prefix `transformer.` (a
 * checkpoint of the bare model, or of one with a head). Files are read in pieces, so that memory stays near the model's own size.
 * @throws XlformersError ERR_CHECKPOINT_MISMATCH listing missing, unexpected and mis-shaped tensors by name, or tied ones that differ;
 *   ERR_NOT_FINITE naming the tensor
 */
export async function loadWeights(directory: string, parameters: Parameters, options: LoadOptions): Promise<void> {
  const file = await openWeights(directory);
  try {
    const places = matchNames(file, directory, parameters, options);
    const sources = new Map<Parameter, string>();
    const upload = new Upload(parameters, options.checkFinite ?? false);
    for (const [name, parameter] of places) {
      options.signal?.throwIfAborted();
      const source = sources.get(parameter);
      if (source === undefined) {
        await upload.fill(parameter, file, name);
        sources.set(parameter, name);
      } else if (!(await sameBytes(file, source, name))) {
        throw new XlformersError(
          'ERR_CHECKPOINT_MISMATCH',
          `${file.path}: ${name} differs from ${source}, which this model ties to it; set tie_word_embeddings in config.json to false`,
        );
      }
    }
    parameters.initialiseRest();
  } finally {
    await file.close();
  }
}

/** The parameter of each stored tensor, in the order of the file. */
function matchNames(
  file: WeightsFile,
  directory: string,
  parameters: Parameters,
  { prefix, optional = () => false, replaced = () => false }: LoadOptions,
): Map<string, Parameter> {
  const stored = [...file.tensors.keys()].filter((name) => !computed.test(name));
  const hasPrefix = stored.some((name) => name.startsWith('transformer.'));
  const rename = (given: string): string => {
    const name = huggingFaceName(given);
    if (hasPrefix === (prefix !== '')) return name;
    if (hasPrefix) return name.replace(/^transformer\./, '');
    return heads.test(name) ? name : `transformer.${name}`;
  };
  const places = new Map<string, Parameter>();
  const missing = new Set(parameters.map.keys());
  const problems: string[] = [];
  for (const name of stored) {
    const parameter = parameters.find(rename(name));
    const { shape } = file.tensors.get(name) as { shape: readonly number[] };
    if (!parameter) {
      // A head that this class does not have is no defect of the checkpoint.
      if (!heads.test(name)) problems.push(`unexpected: ${name}`);
    } else if (shape.join() !== parameter.shape.join()) {
      if (replaced(parameter.name)) missing.delete(parameter.name);
      else problems.push(`shape of ${name}: [${shape.join(', ')}], expected [${parameter.shape.join(', ')}]`);
    } else {
      missing.delete(parameter.name);
      places.set(name, parameter);
    }
  }
  for (const name of missing) if (!optional(name)) problems.push(`missing: ${name}`);
  if (problems.length > 0) {
    throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${directory}: ${problems.join('; ')}`);
  }
  return places;
}

class Upload {
  private queued = 0;

  constructor(
    private readonly parameters: Parameters,
    private readonly checkFinite: boolean,
  ) {}

  async fill(parameter: Parameter, file: WeightsFile, name: string): Promise<void> {
    const { dtype } = file.tensors.get(name) as { dtype: SafetensorsDType };
    let first = 0;
    for await (const piece of file.pieces(name)) {
      const values = convert(piece, dtype, parameter.dtype as FloatDType);
      if (this.checkFinite) requireFinite(file.path, name, values, parameter.dtype);
      parameter.overwritePart(first, values);
      first += values.length;
      this.queued += values.byteLength;
      if (this.queued < queuedBytes) continue;
      await this.parameters.device.synchronize();
      this.queued = 0;
    }
    this.parameters.initialised(parameter);
  }
}

/** Stored numbers as a parameter of that type has them, rounded once. */
function convert(piece: Uint8Array<ArrayBuffer>, stored: SafetensorsDType, dtype: FloatDType): StoredArray {
  const { buffer, byteOffset, byteLength } = piece;
  if (stored === floatTypes[dtype]) {
    const { array, bytes } = dtypeDetail(dtype);
    return new array(buffer, byteOffset, byteLength / bytes);
  }
  if (dtype === 'float32') return toFloat32(piece, stored);
  const values = stored === 'F64' ? new Float64Array(buffer, byteOffset, byteLength / 8) : toFloat32(piece, stored);
  return isShortFloat(dtype) ? toShortFloat(values, dtype) : Float64Array.from(values);
}

/** Whether two tensors of the same shape hold the same. */
async function sameBytes(file: WeightsFile, a: string, b: string): Promise<boolean> {
  if (file.tensors.get(a)?.dtype !== file.tensors.get(b)?.dtype) return false;
  const others = file.pieces(b)[Symbol.asyncIterator]();
  for await (const piece of file.pieces(a)) {
    const { value } = (await others.next()) as { value?: Uint8Array };
    if (!value || Buffer.compare(piece, value) !== 0) return false;
  }
  return true;
}
