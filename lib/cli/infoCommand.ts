import path from 'node:path';
import type { Command } from 'commander';
import { openSafetensors } from '../checkpoints/safetensors';
import { devices } from '../device';
import { deviceOption, jsonOption, modelFolder, readJsonObject, seedOption } from './common';

interface InfoFlags {
  json?: boolean;
}

export function addInfoCommand(program: Command): void {
  program
    .command('info')
    .description('the devices of this machine, or what a model folder holds')
    .argument('[model]', 'model folder or training directory')
    .addOption(jsonOption())
    .addOption(deviceOption().hideHelp())
    .addOption(seedOption().hideHelp())
    .addHelpText('after', '\nExamples:\n  xlformers info\n  xlformers info runs/book --json')
    .action(run);
}

async function run(folder: string | undefined, { json }: InfoFlags): Promise<void> {
  if (folder === undefined) {
    const backends = devices();
    process.stdout.write(json ? `${JSON.stringify({ backends })}\n` : describeBackends(backends));
    return;
  }
  const directory = modelFolder(folder);
  const config = readJsonObject(path.join(directory, 'config.json'));
  const file = await openSafetensors(path.join(directory, 'model.safetensors'));
  try {
    let parameters = 0;
    let bytes = 0;
    for (const { shape, begin, end } of file.tensors.values()) {
      parameters += shape.reduce((product, size) => product * size, 1);
      bytes += end - begin;
    }
    const summary = {
      architecture: (config.architectures as string[] | undefined)?.[0] ?? config.model_type,
      directory,
      parameters,
      weightBytes: bytes,
      // Weights, gradients and two moments.
      trainingBytes: 4 * bytes,
      memoryBytesPerStream: memoryBytes(config),
      tensors: file.tensors.size,
      config,
    };
    process.stdout.write(json ? `${JSON.stringify(summary)}\n` : describeModel(summary));
  } finally {
    await file.close();
  }
}

/** Hidden states that the memory of one stream holds: layers x memory length x width, in float32. */
function memoryBytes(config: Record<string, unknown>): number {
  const [layers, length, width] = [config.n_layer, config.mem_len, config.d_model].map(Number);
  return (layers as number) * (length as number) * (width as number) * 4 || 0;
}

function describeBackends(backends: ReturnType<typeof devices>): string {
  return backends
    .map(({ backend, devices: list, reason }) =>
      list.length === 0
        ? `${backend}: none (${reason})\n`
        : list
            .map(
              ({ name, product, detail, memoryBytes: bytes }) =>
                `${name}: ${product}, ${detail}, ${mebibytes(bytes)}\n`,
            )
            .join(''),
    )
    .join('');
}

function describeModel(summary: {
  architecture: unknown;
  directory: string;
  parameters: number;
  weightBytes: number;
  trainingBytes: number;
  memoryBytesPerStream: number;
  tensors: number;
  config: Record<string, unknown>;
}): string {
  const { config } = summary;
  const show = (name: string) => `${name} ${JSON.stringify(config[name])}`;
  return [
    `${String(summary.architecture)} in ${summary.directory}`,
    `  ${['n_layer', 'd_model', 'n_head', 'd_head', 'd_inner', 'vocab_size', 'mem_len'].map(show).join(', ')}`,
    `  ${summary.parameters.toLocaleString('en')} parameters in ${summary.tensors} tensors`,
    `  weights ${mebibytes(summary.weightBytes)}; training needs ${mebibytes(summary.trainingBytes)} beside activations`,
    `  memory of one stream: ${mebibytes(summary.memoryBytesPerStream)}`,
    '',
  ].join('\n');
}

function mebibytes(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
