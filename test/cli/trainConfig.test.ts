/** What a configuration file of `xlformers train` may not hold: refused by name before anything is written. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { runCli } from '../support/cli';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-train-config-'));
const text = path.join(scratch, 'text.txt');
const config = path.join(scratch, 'config.json');
const out = path.join(scratch, 'run');

beforeAll(() => writeFileSync(text, 'a text of some length, again and again. '.repeat(20)));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test.each([
  ['a misspelt part', '{"modle": {}}', [config, "'modle'", "'model'"]],
  ['a field on the wrong floor', '{"train": {}, "steps": 5}', [config, "'steps'"]],
  ['a misspelt training option', '{"train": {"stepps": 5}}', ['stepps', "did you mean 'steps'"]],
  ['a misspelt option of the evaluation', '{"train": {"evaluation": {"pacience": 5}}}', ['pacience', "'patience'"]],
  ['a misspelt field of the model', '{"model": {"nLayr": 1}}', ['nLayr', "did you mean 'nLayer'"]],
  ['a list', '[]', [config, 'expected a JSON object']],
  ['a text cut short', '{"train": {', [config]],
])('%s', async (_, content, named) => {
  writeFileSync(config, content);
  const { code, stdout, stderr } = await runCli([
    'train',
    text,
    '--out',
    out,
    '--config',
    config,
    '--json',
    '--device',
    'cpu',
  ]);
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_CONFIG' } });
  for (const part of named) expect(stderr).toContain(part);
  expect(existsSync(out)).toBe(false);
});
