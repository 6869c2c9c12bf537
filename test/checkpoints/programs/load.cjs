// Loads what each line of the standard input asks for, as a user's program does: with the package found by `import`. Answers with a line.
const { createInterface } = require('node:readline');
const library = require('../../../lib');

async function load({ what, name, options, env }) {
  Object.assign(process.env, env);
  try {
    const loaded = await (what === 'resolveModel'
      ? library.resolveModel(name, options)
      : library[what].fromPretrained(name, options));
    loaded.dispose?.();
    return { loaded: loaded.constructor.name };
  } catch ({ code, message }) {
    return { code, message };
  }
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await load(JSON.parse(line)))}\n`);
  }
}

void main();
