import { resolveFiles } from '../checkpoints/hub';
import { modelFiles } from '../checkpoints/hubContents';
import { readConfigFile } from '../checkpoints/modelFolder';
import { XlformersError, describe } from '../errors';
import type { PretrainedModel, PretrainedOptions } from './pretrainedModel';
import { TransformerXLModel } from './transformerXL';
import { TransformerXLForSequenceClassification, TransformerXLLMHeadModel } from './transformerXLHeads';
import { XLNetModel } from './xlnet';
import {
  XLNetForMultipleChoice,
  XLNetForSequenceClassification,
  XLNetForTokenClassification,
  XLNetLMHeadModel,
} from './xlnetHeads';
import { XLNetForQuestionAnswering, XLNetForQuestionAnsweringSimple } from './xlnetQuestionAnswering';

interface ModelClass {
  fromPretrained(nameOrPath: string, options: PretrainedOptions): Promise<PretrainedModel>;
}

/** By Hugging Face's class name. */
const architectures: Record<string, ModelClass> = {
  TransfoXLModel: TransformerXLModel,
  TransfoXLLMHeadModel: TransformerXLLMHeadModel,
  TransfoXLForSequenceClassification: TransformerXLForSequenceClassification,
  XLNetModel,
  XLNetLMHeadModel,
  XLNetForSequenceClassification,
  XLNetForTokenClassification,
  XLNetForMultipleChoice,
  XLNetForQuestionAnswering,
  XLNetForQuestionAnsweringSimple,
};

const bareModels: Record<string, ModelClass> = { 'transfo-xl': TransformerXLModel, xlnet: XLNetModel };

/** The model that config.json speaks of. */
export const AutoModel = {
  /**
   * A model of the class that `architectures` in config.json names; of the bare class of `model_type` where it names none.
   * @throws XlformersError ERR_CONFIG when it is neither Transformer-XL nor XLNet, and the errors of resolving and loading
   */
  async fromPretrained(nameOrPath: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
    const directory = await resolveFiles(nameOrPath, modelFiles, options);
    const config = await readConfigFile(directory);
    const named = Array.isArray(config.architectures) ? (config.architectures[0] as unknown) : undefined;
    const found =
      (typeof named === 'string' && Object.hasOwn(architectures, named) ? architectures[named] : undefined) ??
      (typeof config.model_type === 'string' && Object.hasOwn(bareModels, config.model_type)
        ? bareModels[config.model_type]
        : undefined);
    if (!found) {
      throw new XlformersError(
        'ERR_CONFIG',
        `${directory}: model_type ${describe(config.model_type)}, expected 'transfo-xl' or 'xlnet'`,
      );
    }
    return found.fromPretrained(directory, options);
  },
};
