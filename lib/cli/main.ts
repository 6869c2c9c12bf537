#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { XlformersError } from '../errors';
import { version } from '../version';
import { exitCodes } from './common';
import { addAttentionCommand } from './attentionCommand';
import { addClassifyCommand } from './classifyCommand';
import { addConvertCommand } from './convertCommand';
import { addEncodeCommand } from './encodeCommand';
import { addEvaluateCommand } from './evaluateCommand';
import { addFillCommand } from './fillCommand';
import { addGenerateCommand } from './generateCommand';
import { addInfoCommand } from './infoCommand';
import { addTrainCommand } from './trainCommand';

/** Runs the command line; sets `process.exitCode`. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('xlformers')
    .description('Transformer-XL and XLNet for Node.js')
    .version(version)
    .showSuggestionAfterError()
    .showHelpAfterError('(--help says more)')
    .exitOverride();
  for (const add of [addTrainCommand, addEvaluateCommand, addGenerateCommand]) add(program);
  for (const add of [addEncodeCommand, addFillCommand, addClassifyCommand, addAttentionCommand]) add(program);
  for (const add of [addConvertCommand, addInfoCommand]) add(program);
  for (const command of program.commands) command.exitOverride().showHelpAfterError('(--help says more)');
  if (!process.stdout.listeners('error').includes(endWithReader)) process.stdout.on('error', endWithReader);
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
      return;
    }
    process.exitCode = exitCodes.failed;
    const known = error instanceof XlformersError;
    if (argv.includes('--json')) {
      const { message } = error as Error;
      process.stdout.write(`${JSON.stringify({ error: { code: known ? error.code : 'ERR_INTERNAL', message } })}\n`);
    }
    process.stderr.write(`xlformers: ${known ? `${error.message} (${error.code})` : (error as Error).stack}\n`);
  }
}

/** Where nobody reads on (`xlformers … | head`), there is nothing more to do. */
function endWithReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  process.exit(exitCodes.ok);
}

if (require.main === module) void main(process.argv);
