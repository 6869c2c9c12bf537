import { promises as fs } from 'node:fs';
import path from 'node:path';
import { readLabelledText } from '../../lib/data/labelledText';
import { readConfigFile } from '../../lib/checkpoints/modelFolder';
import { transformerXLConfigFromFile, transformerXLConfigToFile } from '../../lib/models/transformerXLConfig';
import { xlnetConfigFromFile, xlnetConfigToFile } from '../../lib/models/xlnetConfig';
import { fixturePath } from '../../test/support/fixtures';
import { mutateBytes } from './bytes';
import { type Format, requireBounds } from './format';
import { mutateJson } from './json';

/** What is accepted is accepted again when it is written. */
function checkConfig(file: Record<string, unknown>): void {
  const isXlnet = file.model_type === 'xlnet';
  const first = isXlnet ? xlnetConfigFromFile(file) : transformerXLConfigFromFile(file);
  for (const value of Object.values(first))
    requireBounds(typeof value !== 'number' || Number.isFinite(value), 'a number');
  if (first.numLabels > 1e4) return;
  const written = isXlnet
    ? xlnetConfigToFile(xlnetConfigFromFile(file), 'XLNetModel')
    : transformerXLConfigToFile(transformerXLConfigFromFile(file), 'TransfoXLModel');
  const second = isXlnet ? xlnetConfigFromFile(written) : transformerXLConfigFromFile(written);
  requireBounds(JSON.stringify(first) === JSON.stringify(second), 'a configuration that changes when it is saved');
}

export const config: Format = {
  corpus: () =>
    Promise.all(
      ['xlnet-plain', 'xlnet-classify', 'txl-lm-div4', 'txl-classify'].map((name) =>
        fs.readFile(fixturePath('hf', name, 'config.json')),
      ),
    ),
  mutate: (random, file) =>
    random.uniform() < 0.2 ? mutateBytes(random, file) : Buffer.from(mutateJson(random, file.toString())),
  check: async (file, folder) => {
    await fs.writeFile(path.join(folder, 'config.json'), file);
    checkConfig(await readConfigFile(folder));
  },
};

const labelled = (extension: string, ...texts: string[]): Format => ({
  corpus: () => Promise.resolve(texts.map((text) => Buffer.from(text))),
  mutate: mutateBytes,
  check: async (file, folder) => {
    const place = path.join(folder, `data.${extension}`);
    await fs.writeFile(place, file);
    const examples = await readLabelledText(place);
    requireBounds(examples.length > 0, 'no examples');
    for (const { text, label } of examples)
      requireBounds(typeof text === 'string' && typeof label === 'string', 'an example');
  },
});

export const jsonLines = labelled('jsonl', '{"text": "Good.", "label": 1}\n{"text": "B\\u00e4d", "label": "no"}\n');
export const csv = labelled(
  'csv',
  'text,label\n"a ""quoted"", text",yes\r\nplain,no\n',
  'label,id,text\nx,1,"two\nlines"\n',
);
