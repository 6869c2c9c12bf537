import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { generate } from '../inference/generate';
import { TransformerXLLMHeadModel } from '../models/transformerXLHeads';
import { ByteLevelTokenizer } from '../tokenizers/byteLevel';
import { deviceOption, integer, jsonOption, modelFolder, number, seedOption } from './common';

interface GenerateFlags {
  prompt: string;
  promptFile?: string;
  tokens: number;
  temperature: number;
  topK: number;
  topP: number;
  memoryLength?: number;
  seed: number;
  device: string;
  json?: boolean;
}

export function addGenerateCommand(program: Command): void {
  program
    .command('generate')
    .description('continue a text; the memory is carried from token to token')
    .argument('<model>', 'model folder or training directory')
    .option('--prompt <text>', 'what to continue', '\n')
    .option('--prompt-file <file>', 'a file to continue; goes before --prompt')
    .option('--tokens <n>', 'tokens to draw', integer(0), 300)
    .option('--temperature <t>', '0: always the most probable', number(0), 0.8)
    .option('--top-k <n>', 'draw from the n most probable; 0: all', integer(0), 0)
    .option('--top-p <p>', 'draw from the smallest set of that probability', number(1e-9, 1), 0.95)
    .option('--memory-length <n>', "rows of memory; default: the model's", integer(0))
    .addOption(seedOption().default(1))
    .addOption(deviceOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  xlformers generate runs/book --prompt "Call me" --tokens 200 --seed 7')
    .action(run);
}

async function run(folder: string, flags: GenerateFlags): Promise<void> {
  const model = await TransformerXLLMHeadModel.fromPretrained(modelFolder(folder), { device: flags.device });
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop);
  try {
    if (flags.memoryLength !== undefined) model.resetMemoryLength(flags.memoryLength);
    const tokenizer = new ByteLevelTokenizer();
    const before = flags.promptFile === undefined ? '' : readFileSync(flags.promptFile, 'utf8');
    const prompt = before + (before !== '' && flags.prompt === '\n' ? '' : flags.prompt);
    const decoder = tokenizer.stream();
    const { temperature, topK, topP, seed } = flags;
    const started = performance.now();
    const ids: number[] = [];
    let logProbability = 0;
    if (!flags.json) process.stdout.write(prompt);
    for await (const token of generate(model, tokenizer.encode(prompt).ids, {
      maxTokens: flags.tokens,
      temperature,
      topK,
      topP,
      seed,
      signal: controller.signal,
    })) {
      ids.push(token.id);
      logProbability += token.logProbability;
      if (!flags.json) process.stdout.write(decoder.push(token.id));
    }
    const seconds = (performance.now() - started) / 1000;
    process.stdout.write(
      flags.json
        ? `${JSON.stringify({ prompt, text: tokenizer.decode(ids), ids, logProbability, tokensPerSecond: ids.length / seconds })}\n`
        : `${decoder.end()}\n`,
    );
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    process.stdout.write('\n');
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', stop);
    model.dispose();
  }
}
