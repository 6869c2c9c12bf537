/** What the commands that run a model on texts share: where the model is, its tokenizer, the texts, Ctrl-C. */
import { type Command, Option } from 'commander';
import { type DownloadProgress, resolveFiles } from '../checkpoints/hub';
import { allFiles } from '../checkpoints/hubContents';
import { isDirectory } from '../checkpoints/readFile';
import { openWeights } from '../checkpoints/weights';
import { readBytes } from '../data/corpus';
import type { FloatDType } from '../dtype';
import { XlformersError, describe } from '../errors';
import { architectureOf } from '../inference/modelSummary';
import { readModelConfig } from '../models/pretrained';
import type { ModelOptions } from '../models/pretrainedModel';
import { TransformerXLModel } from '../models/transformerXL';
import { XLNetModel } from '../models/xlnet';
import { deviceOption, dtypeOption, integer, modelFolder } from './common';
import { ProgressBar } from './progressBar';

export const modelArgument = 'model folder, training directory, hub id or short name (xlnet-base-cased)';
export const textsArgument = 'texts; without any, the lines of --file or of the standard input';
export const jsonLinesOption = () => new Option('--json', 'print a JSON object for each text, one a line');

export interface HubFlags {
  revision?: string;
  offline?: boolean;
  cacheDir?: string;
}

export interface ModelFlags extends HubFlags {
  device: string;
  dtype: FloatDType;
  json?: boolean;
}

export interface TextFlags extends ModelFlags {
  file?: string;
  batchSize: number;
}

/** The options that say where a model comes from. */
export function addHubOptions(command: Command): Command {
  return command
    .option('--revision <name>', "branch, tag or commit of a hub id; default: 'main'")
    .option('--offline', 'use what is in the cache, download nothing')
    .option('--cache-dir <folder>', "where downloads are kept; default: the cache of Python's huggingface_hub");
}

/** The options of commands that read texts. */
export function addTextOptions(command: Command): Command {
  return addHubOptions(command)
    .option('--file <file>', 'texts, one a line')
    .option('--batch-size <n>', 'texts side by side', integer(1), 8)
    .addOption(deviceOption())
    .addOption(dtypeOption());
}

/** A model on this machine. */
export interface LocalModel {
  directory: string;
  /** config.json */
  config: Record<string, unknown>;
  /** What its loader takes. */
  options: ModelOptions;
}

/** A model's folder, downloaded with a progress bar where needed, and its configuration. */
export async function localModel(
  name: string,
  { device, dtype, ...flags }: HubFlags & { device?: string; dtype?: FloatDType },
  signal: AbortSignal,
): Promise<LocalModel> {
  const directory = (await isDirectory(name)) ? modelFolder(name) : await downloaded(name, flags, signal);
  const options = { ...(device === undefined ? {} : { device }), ...(dtype === undefined ? {} : { dtype }) };
  return { directory, config: await readModelConfig(directory), options };
}

/** The folder of a hub id in the cache, with its weights and tokenizer unless less is wanted. */
export async function downloaded(
  name: string,
  { revision, offline, cacheDir }: HubFlags,
  signal?: AbortSignal,
  wanted = allFiles,
): Promise<string> {
  const bar = new ProgressBar(process.stderr, 'downloading');
  try {
    return await resolveFiles(name, wanted, {
      ...(revision === undefined ? {} : { revision }),
      ...(offline ? { localFilesOnly: true } : {}),
      ...(cacheDir === undefined ? {} : { cacheDir }),
      onProgress: downloadProgress(bar),
      ...(signal === undefined ? {} : { signal }),
    });
  } finally {
    bar.end();
  }
}

/** Draws the download of each file, in MiB. */
function downloadProgress(bar: ProgressBar): (progress: DownloadProgress) => void {
  let current = '';
  let started = 0;
  return ({ file, loadedBytes, totalBytes }) => {
    if (file !== current) {
      current = file;
      started = performance.now();
    }
    const rate = loadedBytes / Math.max(1e-3, (performance.now() - started) / 1000);
    const mebibytes = (bytes: number) => Math.round((bytes / 2 ** 20) * 10) / 10;
    bar.update({
      done: mebibytes(loadedBytes),
      total: mebibytes(totalBytes),
      fields: [
        ['MiB', file],
        ['MiB/s', mebibytes(rate).toFixed(1)],
      ],
      secondsLeft: (totalBytes - loadedBytes) / rate,
    });
  };
}

/** The model without its head. */
export async function loadBareModel({
  directory,
  config,
  options,
}: LocalModel): Promise<XLNetModel | TransformerXLModel> {
  if (config.model_type === 'xlnet') return XLNetModel.fromPretrained(directory, options);
  if (config.model_type === 'transfo-xl') return TransformerXLModel.fromPretrained(directory, options);
  throw new XlformersError(
    'ERR_CONFIG',
    `${directory}: model_type ${describe(config.model_type)}, expected 'transfo-xl' or 'xlnet'`,
  );
}

/** A head that a command needs. */
export interface HeadRequirement {
  command: string;
  /** Classes of Hugging Face that have it. */
  architectures: readonly string[];
  /** A weight of it: that config.json names a class does not prove that its head was ever trained. */
  weight: RegExp;
  /** How to get such a model. */
  advice: string;
}

/** What a model with another head is good for. */
const uses: Record<string, string> = {
  XLNetLMHeadModel: "'fill' predicts its <mask>s, 'encode' gives vectors",
  TransfoXLLMHeadModel: "'generate' continues a text, 'evaluate' gives its loss, 'encode' vectors",
  XLNetForSequenceClassification: "'classify' gives its classes, 'encode' vectors",
  TransfoXLForSequenceClassification: "'classify' gives its classes, 'encode' vectors",
};

/** @throws XlformersError ERR_CHECKPOINT_MISMATCH saying which command fits a model without that head */
export async function requireHead({ directory, config }: LocalModel, head: HeadRequirement): Promise<void> {
  const architecture = architectureOf(config);
  const named = architecture !== config.model_type;
  const refuse = (what: string, use: string): never => {
    const needed = `${head.command} needs ${head.architectures.join(' or ')} (${head.advice})`;
    throw new XlformersError('ERR_CHECKPOINT_MISMATCH', `${directory}: ${what}; ${needed}. With this one, ${use}`);
  };
  const anyModel = "'encode' gives vectors of any model";
  if (named && !head.architectures.includes(architecture))
    refuse(`is of class ${architecture}`, uses[architecture] ?? anyModel);
  const weights = await openWeights(directory);
  await weights.close();
  if (![...weights.tensors.keys()].some((name) => head.weight.test(name))) refuse('has no weights of a head', anyModel);
}

/**
 * The texts to work on: arguments, the lines of a file, or those of the standard input.
 * @throws XlformersError ERR_ARG_RANGE when there are none, or both arguments and a file
 */
export async function readTexts(given: readonly string[], file: string | undefined): Promise<string[]> {
  if (given.length > 0 && file !== undefined) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `texts: got ${given.length} arguments and --file, expected one of the two`,
    );
  }
  if (given.length > 0) return [...given];
  if (file !== undefined) return lines(await readBytes(file), file);
  const parts: Buffer[] = [];
  if (!process.stdin.isTTY) for await (const part of process.stdin) parts.push(part as Buffer);
  return lines(Buffer.concat(parts), 'the standard input');
}

function lines(bytes: Uint8Array, source: string): string[] {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new XlformersError('ERR_DATA_FORMAT', `${source}: is not UTF-8; convert it`, { cause: error });
  }
  const found = text.split(/\r?\n/);
  if (found.at(-1) === '') found.pop();
  if (found.length > 0) return found;
  throw new XlformersError(
    'ERR_ARG_RANGE',
    `texts: got none from ${source}, expected arguments, --file or lines there`,
  );
}

/** Results with a progress bar, unless they go to the terminal themselves or are few. */
export async function* withProgress<T>(
  results: AsyncIterable<T>,
  total: number,
  label: string,
  visible: boolean,
): AsyncGenerator<T> {
  const bar = new ProgressBar(process.stderr, label);
  const started = performance.now();
  let done = 0;
  try {
    for await (const result of results) {
      yield result;
      done += 1;
      if (!visible) continue;
      const seconds = (performance.now() - started) / 1000;
      const fields = [['texts/s', (done / seconds).toFixed(1)]] as const;
      bar.update({ done, total, fields, secondsLeft: ((total - done) * seconds) / done });
    }
  } finally {
    bar.end();
  }
}

/** Runs until done or until Ctrl-C, which ends it with exit code 130. */
export async function untilInterrupted(run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop);
  try {
    await run(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', stop);
  }
}

/** The number with the fewest digits that float32 reads back as the same value. */
export function shortFloat(value: number): number {
  for (let digits = 6; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}
