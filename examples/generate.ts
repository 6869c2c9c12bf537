/** Continues a prompt with a trained model, token by token: ts-node examples/generate.ts [model folder] [prompt] */
import { ByteLevelTokenizer, TransformerXLLMHeadModel, generate } from '../lib';

async function main(): Promise<void> {
  const [folder, prompt = 'Call me Ishmael. '] = process.argv.slice(2);
  if (folder === undefined) {
    console.error(
      'Usage: ts-node examples/generate.ts <model folder> [prompt]; `npm start` makes runs/moby-dick/model',
    );
    process.exitCode = 2;
    return;
  }
  const model = await TransformerXLLMHeadModel.fromPretrained(folder);
  const tokenizer = new ByteLevelTokenizer();
  const decoder = tokenizer.stream();
  process.stdout.write(prompt);
  for await (const { id } of generate(model, tokenizer.encode(prompt).ids, {
    maxTokens: 200,
    temperature: 0.8,
    topP: 0.95,
    seed: 1,
  })) {
    process.stdout.write(decoder.push(id));
  }
  console.log(decoder.end());
  model.dispose();
}

void main();
