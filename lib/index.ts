/** Transformer-XL and XLNet for Node.js: the public surface. */
export { noGrad } from './autograd';
export { Device, devices, type BackendDescription, type DeviceDescription, type DeviceLike } from './device';
export type { DType, FloatDType, ShortFloatDType, TypedArray } from './dtype';
export { XlformersError } from './errors';
export { record, type Recording, type RecordOptions } from './record';
export { Generator, type GeneratorState } from './random';
export { keep, scope, type TensorContainer } from './scope';
export { Parameter, Tensor, type TensorOptions } from './tensor';
export type { NestedArray, TensorData } from './tensorData';

export * from './ops';

export { Memory } from './nn/memory';
export { AutoModel } from './models/autoModel';
export { type ModelOptions, PretrainedModel, type PretrainedOptions, type SaveOptions } from './models/pretrainedModel';
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
export { XLNetModel, type XLNetInputs, type XLNetOutput, type XLNetPretrainedOptions } from './models/xlnet';
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
export {
  labelNames,
  type LabelledColumns,
  type LabelledText,
  readLabelledText,
  splitExamples,
} from './data/labelledText';
export { OrderedBatches, type Batch } from './data/orderedBatches';
export { factorizationOrder, type FactorizationOrder } from './data/permutationOrder';
export { AutoTokenizer } from './tokenizers/autoTokenizer';
export { ByteLevelTokenizer } from './tokenizers/byteLevel';
export type { BatchOptions, EncodedBatch, PaddingSide } from './tokenizers/batch';
export type { Encoding, Truncation } from './tokenizers/encoding';
export type { SentencePieceSettings } from './tokenizers/fromSentencePiece';
export type { TrainOptions as TokenizerTrainOptions } from './tokenizers/trainSentencePiece';
export { type DecodeOptions, type EncodeOptions, type TextOrPair, Tokenizer } from './tokenizers/tokenizer';
export { TransformerXLTokenizer, type WordOptions } from './tokenizers/transformerXLTokenizer';
export { XLNetTokenizer } from './tokenizers/xlnetTokenizer';
export { attentionHeatMap } from './inference/attentionHeatMap';
export { attentionWeights, type AttentionWeights, type AttentionWeightsOptions } from './inference/attentionWeights';
export {
  classifyTexts,
  classNames,
  type ClassifiedText,
  type ClassifyTextsOptions,
  type ProblemType,
} from './inference/classifyTexts';
export { encodeTexts, type EncodedText, type EncodeTextsOptions, type Pooling } from './inference/encodeTexts';
export {
  fillMasked,
  type FillCandidate,
  type FilledPlace,
  type FilledText,
  type FillOptions,
  type FillOrder,
} from './inference/fillMasked';
export { summarizeModel, type MemoryNeeds, type ModelSummary, type SummaryOptions } from './inference/modelSummary';
export type { TextBatchOptions } from './inference/textBatches';
export {
  generate,
  generateBatch,
  type GenerateBatchOptions,
  type GenerateOptions,
  type GeneratedBatchToken,
  type GeneratedToken,
} from './inference/generate';
export { evaluate, type EvaluateOptions, type Evaluation } from './train/evaluate';
export { classificationTask, type ClassificationData } from './train/classificationTask';
export {
  type ClassificationEvaluation,
  type ClassificationEvaluationOptions,
  evaluateClassifier,
} from './train/evaluateClassifier';
export type { PermutationEvaluation } from './train/evaluatePermutations';
export { languageModelTask, type LanguageModelData } from './train/languageModelTask';
export { permutationTask, type PermutationData, type PermutationOptions } from './train/permutationTask';
export type {
  HeldOut,
  LossUnit,
  MicroBatch,
  TaskFactory,
  TrainableModel,
  TrainingBatch,
  TrainingTask,
} from './train/task';
export { Trainer, type StepReport } from './train/trainer';
export { trainInDirectory, type TrainingResult, type TrainingRunOptions } from './train/trainingRun';
export type { LossScalerState, LossScalingConfig } from './train/lossScaler';
export type { Precision, TrainConfig, TrainOptions } from './train/trainConfig';
export { lossCurve } from './train/lossCurve';
export { convertCheckpoint, type ConvertOptions, type ConvertReport } from './checkpoints/convert';
export { resolveModel, type DownloadProgress, type HubOptions } from './checkpoints/hub';
export { writeNpy } from './checkpoints/npy';
export { openSafetensors, writeSafetensors } from './checkpoints/safetensors';
export { openWeights, type WeightInfo, type WeightsFile } from './checkpoints/weights';
export { version } from './version';
