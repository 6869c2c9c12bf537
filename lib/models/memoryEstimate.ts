import { type Device, devices } from '../device';
import { XlformersError } from '../errors';
import { clusterRanges } from '../nn/adaptiveEmbedding';
import type { TransformerXLConfig } from './transformerXLConfig';
import type { XLNetConfig } from './xlnetConfig';

/** Weights by the fields of the configuration that they come from: the large matrices, which are all but a thousandth. */
export type WeightTerms = Readonly<Record<string, number>>;

export function xlnetWeightTerms({ vocabSize, dModel, nLayer, dInner }: XLNetConfig): WeightTerms {
  return {
    'vocabSize x dModel': vocabSize * dModel,
    'nLayer x dModel x dModel': nLayer * 5 * dModel ** 2,
    'nLayer x dModel x dInner': nLayer * 2 * dModel * dInner,
  };
}

export function transformerXLWeightTerms(config: TransformerXLConfig): WeightTerms {
  const { vocabSize, cutoffs, divVal, dEmbed, dModel, nLayer, nHead, dHead, dInner } = config;
  const embeddings = clusterRanges(cutoffs, vocabSize).map(
    ({ first, end }, index) => (end - first) * Math.floor(dEmbed / divVal ** index),
  );
  return {
    'vocabSize x dEmbed': embeddings.reduce((sum, count) => sum + count, 0),
    'nLayer x dModel x nHead x dHead': nLayer * 5 * dModel * nHead * dHead,
    'nLayer x dModel x dInner': nLayer * 2 * dModel * dInner,
  };
}

/**
 * A model that the device can hold. Memory that is merely promised would be found missing when it is used, and the process killed.
 * @throws XlformersError ERR_CONFIG naming the fields that ask for most
 */
export function requireMemory(terms: WeightTerms, bytesPerWeight: number, device: Device): void {
  const bytes = bytesPerWeight * Object.values(terms).reduce((sum, count) => sum + count, 0);
  const all = devices().flatMap((backend) => backend.devices);
  const memory = all.find(({ name }) => name === device.name)?.memoryBytes ?? Infinity;
  if (bytes <= memory) return;
  const [largest] = Object.entries(terms).sort(([, a], [, b]) => b - a) as [[string, number], ...unknown[]];
  const gigabytes = (count: number) => `${(count / 2 ** 30).toPrecision(4)} GiB`;
  throw new XlformersError(
    'ERR_CONFIG',
    `config: the weights take ${gigabytes(bytes)}, of which ${largest[0]} ${gigabytes(bytesPerWeight * largest[1])}; ` +
      `expected at most the ${gigabytes(memory)} of device ${device.name}`,
  );
}
