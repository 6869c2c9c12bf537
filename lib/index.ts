/** Transformer-XL and XLNet for Node.js: the public surface. */
export { noGrad } from './autograd';
export { Device, devices, type BackendDescription, type DeviceDescription, type DeviceLike } from './device';
export type { DType, FloatDType, TypedArray } from './dtype';
export { XlformersError } from './errors';
export { Generator, type GeneratorState } from './random';
export { keep, scope, type TensorContainer } from './scope';
export { Parameter, Tensor, type NestedArray, type TensorData, type TensorOptions } from './tensor';

export * from './ops';

export { Memory } from './nn/memory';
export { AutoModel } from './models/autoModel';
export { type ModelOptions, PretrainedModel, type PretrainedOptions } from './models/pretrainedModel';
export { TransformerXLModel, type TransformerXLInputs, type TransformerXLOutput } from './models/transformerXL';
export {
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  type LanguageModelInputs,
  type LanguageModelOutput,
  type SequenceClassificationInputs,
  type SequenceClassificationOutput,
} from './models/transformerXLHeads';
export type { TransformerXLConfig, TransformerXLOptions } from './models/transformerXLConfig';
export { XLNetModel, type XLNetInputs, type XLNetOutput } from './models/xlnet';
export {
  XLNetForMultipleChoice,
  XLNetForSequenceClassification,
  XLNetForTokenClassification,
  XLNetLMHeadModel,
  type XLNetClassificationOutput,
  type XLNetLMInputs,
  type XLNetLMOutput,
  type XLNetMultipleChoiceInputs,
  type XLNetSequenceClassificationInputs,
  type XLNetTokenClassificationInputs,
} from './models/xlnetHeads';
export {
  XLNetForQuestionAnswering,
  XLNetForQuestionAnsweringSimple,
  type XLNetQuestionAnsweringInputs,
  type XLNetQuestionAnsweringOutput,
  type XLNetQuestionAnsweringSimpleInputs,
  type XLNetQuestionAnsweringSimpleOutput,
} from './models/xlnetQuestionAnswering';
export type { XLNetConfig, XLNetOptions } from './models/xlnetConfig';
export type { Compatibility } from './models/compatibility';
export type { DecodingOptions, DecodingSession, GenerativeModel } from './models/decoding';
export type { LanguageModel } from './models/languageModel';

export { splitCorpus, readBytes, type Corpus } from './data/corpus';
export { OrderedBatches, type Batch } from './data/orderedBatches';
export { factorizationOrder, type FactorizationOrder } from './data/permutationOrder';
export { ByteLevelTokenizer } from './tokenizers/byteLevel';
export type { BatchOptions, EncodedBatch } from './tokenizers/batch';
export type { Encoding, Truncation } from './tokenizers/encoding';
export type { SentencePieceSettings } from './tokenizers/fromSentencePiece';
export type { TrainOptions as TokenizerTrainOptions } from './tokenizers/trainSentencePiece';
export { type DecodeOptions, type EncodeOptions, XLNetTokenizer } from './tokenizers/xlnetTokenizer';
export {
  generate,
  generateBatch,
  type GenerateBatchOptions,
  type GenerateOptions,
  type GeneratedBatchToken,
  type GeneratedToken,
} from './inference/generate';
export { evaluate, type EvaluateOptions, type Evaluation } from './train/evaluate';
export { classificationTask, type ClassificationData, type ClassificationEvaluation } from './train/classificationTask';
export { languageModelTask, type LanguageModelData } from './train/languageModelTask';
export {
  permutationTask,
  type PermutationData,
  type PermutationEvaluation,
  type PermutationOptions,
} from './train/permutationTask';
export type { HeldOut, MicroBatch, TaskFactory, TrainableModel, TrainingBatch, TrainingTask } from './train/task';
export { Trainer, type StepReport } from './train/trainer';
export { trainInDirectory, type TrainingResult, type TrainingRunOptions } from './train/trainingRun';
export type { TrainConfig, TrainOptions } from './train/trainConfig';
export { lossCurve } from './train/lossCurve';
export { convertCheckpoint, type ConvertOptions, type ConvertReport } from './checkpoints/convert';
export { resolveModel, type DownloadProgress, type HubOptions } from './checkpoints/hub';
export { openSafetensors, writeSafetensors } from './checkpoints/safetensors';
export { openWeights, type WeightInfo, type WeightsFile } from './checkpoints/weights';
export { version } from './version';
