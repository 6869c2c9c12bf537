import type { Command } from 'commander';
import { devices } from '../device';
import { XlformersError } from '../errors';
import { type ModelSummary, parameterGroups, summarizeModel } from '../inference/modelSummary';
import { deviceOption, integer, jsonOption, mebibytes, seedOption } from './common';
import { addHubOptions, type HubFlags, localModel, modelArgument, untilInterrupted } from './modelArguments';

interface InfoFlags extends HubFlags {
  devices?: boolean;
  batchSize: number;
  length: number;
  json?: boolean;
}

export function addInfoCommand(program: Command): void {
  const command = program
    .command('info')
    .description('the devices of this machine, or what a model holds and needs')
    .argument('[model]', `${modelArgument}; without: the devices`)
    .option('--devices', 'the devices of this machine')
    .option('--batch-size <n>', 'sequences that memory is estimated for', integer(1), 1)
    .option('--length <n>', 'tokens of each', integer(1), 512);
  addHubOptions(command)
    .addOption(jsonOption())
    .addOption(deviceOption().hideHelp())
    .addOption(seedOption().hideHelp())
    .addHelpText(
      'after',
      `
Examples:
  xlformers info --devices
  xlformers info xlnet-base-cased --batch-size 8 --length 128
  xlformers info runs/book --json`,
    )
    .action(run);
}

function run(name: string | undefined, flags: InfoFlags): Promise<void> {
  const { json, batchSize, length } = flags;
  if (name !== undefined && flags.devices) {
    throw new XlformersError('ERR_ARG_RANGE', `info: got a model '${name}' and --devices, expected one of the two`);
  }
  return untilInterrupted(async (signal) => {
    if (name === undefined) {
      const backends = devices();
      process.stdout.write(json ? `${JSON.stringify({ backends })}\n` : describeBackends(backends));
      return;
    }
    const { directory } = await localModel(name, flags, signal);
    const summary = await summarizeModel(directory, { batchSize, length });
    process.stdout.write(json ? `${JSON.stringify(summary)}\n` : describeModel(summary));
  });
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

/** Fields of config.json worth a look, where they are there. */
const shownFields = 'n_layer d_model n_head d_head d_inner vocab_size mem_len reuse_len attn_type'.split(' ');

function describeModel({ architecture, directory, config, ...summary }: ModelSummary): string {
  const { parameters, groups, tensors, storedBytes, dtypes, file, memory } = summary;
  const number = (value: number) => value.toLocaleString('en');
  const fields = shownFields.filter((name) => config[name] !== undefined);
  const types = Object.entries(dtypes).map(([type, count]) =>
    Object.keys(dtypes).length === 1 ? type : `${type} (${number(count)} values)`,
  );
  const stream = memory.streamBytes === null ? 'grows with the text' : mebibytes(memory.streamBytes);
  return [
    `${architecture} in ${directory}`,
    `  ${fields.map((name) => `${name} ${JSON.stringify(config[name])}`).join(', ')}`,
    `  ${number(parameters)} parameters: ${parameterGroups.map((group) => `${group} ${number(groups[group])}`).join(', ')}`,
    `  ${tensors} tensors of ${types.join(', ')}, ${mebibytes(storedBytes)} in ${file}`,
    `  weights in float32: ${mebibytes(memory.weightBytes)}; memory of one stream: ${stream}`,
    `  ${memory.batchSize} x ${memory.length} tokens: inference about ${mebibytes(memory.inferenceBytes)}, training about ${mebibytes(memory.trainingBytes)}`,
    '',
  ].join('\n');
}
