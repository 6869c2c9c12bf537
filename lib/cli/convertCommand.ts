import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { convertCheckpoint, type ConvertOptions } from '../checkpoints/convert';
import { jsonOption, mebibytes } from './common';
import { addHubOptions, downloaded, type HubFlags, untilInterrupted } from './modelArguments';
import { ProgressBar } from './progressBar';

interface ConvertFlags extends HubFlags {
  json?: boolean;
  format?: ConvertOptions['format'];
  dtype?: ConvertOptions['dtype'];
  force?: boolean;
}

export function addConvertCommand(program: Command): void {
  const command = program
    .command('convert')
    .description('weights between safetensors and PyTorch files, and between element types')
    .argument('<from>', 'model folder, file of weights (.safetensors, .bin, .pt), hub id or short name')
    .argument('<to>', 'folder, or a name that ends in .safetensors or .bin')
    .addOption(new Option('--format <format>', "of a folder; default: 'safetensors'").choices(['safetensors', 'bin']))
    .addOption(
      new Option('--dtype <type>', 'of floating tensors; default: as they are').choices([
        'float32',
        'float16',
        'bfloat16',
      ]),
    )
    .option('--force', 'replace files that are there');
  addHubOptions(command)
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
From folder to folder, config.json and the tokenizer go with the weights. One tensor is in memory at a time. PyTorch files are read
without running anything in them.

Examples:
  xlformers convert pytorch-model safe-model
  xlformers convert pytorch_model.bin model.safetensors
  xlformers convert runs/book small-book --dtype bfloat16
  xlformers convert xlnet-base-cased for-pytorch --format bin`,
    )
    .action(run);
}

function run(from: string, to: string, { format, dtype, force, json, ...flags }: ConvertFlags): Promise<void> {
  return untilInterrupted(async (signal) => {
    const source = existsSync(from) ? weightsIn(from) : await downloaded(from, flags, signal);
    const bar = new ProgressBar(process.stderr, 'converting');
    const started = performance.now();
    const report = await convertCheckpoint(source, to, {
      ...(format && { format }),
      ...(dtype && { dtype }),
      overwrite: force === true,
      onProgress: ({ tensor, index, count }) => {
        const seconds = (performance.now() - started) / 1000;
        bar.update({
          done: index + 1,
          total: count,
          fields: [['tensor', tensor]],
          secondsLeft: (seconds * (count - index)) / index,
        });
      },
      signal,
    });
    bar.end();
    process.stdout.write(
      json ? `${JSON.stringify(report)}\n` : `${report.file}: ${report.tensors} tensors, ${mebibytes(report.bytes)}\n`,
    );
  });
}

/** The file or folder itself; of a training directory its model. A folder may lack a config.json: weights are all that is needed. */
function weightsIn(source: string): string {
  const model = path.join(source, 'model');
  const has = (folder: string) => existsSync(path.join(folder, 'config.json'));
  return !has(source) && has(model) ? model : source;
}
