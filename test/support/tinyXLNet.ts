/** Model folders that are whole (configuration, weights, tokenizer) and small. */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { type PretrainedModel, type XLNetOptions, XLNetLMHeadModel } from '../../lib';
import type { ModelOptions } from '../../lib/models/pretrainedModel';
import { fixturePath } from './fixtures';

/** As large as the vocabulary of the tokenizer fixture. */
const vocabSize = 2000;

type XLNetClass = new (options: XLNetOptions, modelOptions: ModelOptions) => PretrainedModel;

/**
 * Saves an XLNet with random weights, large enough that probabilities differ, and a tokenizer that fits.
 * @param Model default: the language model
 */
export async function saveTinyXLNet(
  directory: string,
  Model: XLNetClass = XLNetLMHeadModel,
  options: XLNetOptions = {},
  tokenizer: 'tokenizer.json' | 'spiece.model' = 'tokenizer.json',
): Promise<void> {
  const shape = { vocabSize, nLayer: 2, dModel: 32, nHead: 4, dInner: 48, initializerRange: 0.3, memLen: null };
  const model = new Model({ ...shape, ...options }, { seed: 3, device: 'cpu' });
  mkdirSync(directory, { recursive: true });
  await model.save(directory);
  model.dispose();
  copyFileSync(fixturePath('tokenizers', 'xlnet-small', tokenizer), path.join(directory, tokenizer));
}
