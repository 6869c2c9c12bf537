import path from 'node:path';
import { XlformersError, argumentError, describe } from '../errors';
import { type CsvRecord, parseCsv } from './csv';
import { DataRandom } from './dataRandom';
import { readText } from './text';

/** A text and what it is. */
export interface LabelledText {
  text: string;
  label: string;
}

/** Where in a record the text and its label are. */
export interface LabelledColumns {
  /** Default 'text'. */
  textColumn?: string | undefined;
  /** Default 'label'. */
  labelColumn?: string | undefined;
}

/**
 * Examples of a `.jsonl` file, an object {"text": …, "label": …} on each line, or of a `.csv` file whose header names the columns
 * `text` and `label`. Labels are strings; in JSON also integers and booleans. Other fields and columns are passed over.
 * @throws XlformersError ERR_FILE_*; ERR_DATA_FORMAT naming file and line; ERR_ARG_RANGE for other endings of the name
 */
export async function readLabelledText(file: string, columns?: LabelledColumns): Promise<LabelledText[]> {
  const extension = path.extname(file).toLowerCase();
  const parse = { '.jsonl': parseLabelledJsonLines, '.ndjson': parseLabelledJsonLines, '.csv': parseLabelledCsv }[
    extension
  ];
  if (!parse) throw argumentError('ERR_ARG_RANGE', 'file', file, 'a name that ends in .jsonl, .ndjson or .csv');
  return parse(await readText(file), file, columns);
}

/** @throws XlformersError ERR_DATA_FORMAT naming source and line */
export function parseLabelledJsonLines(
  text: string,
  source: string,
  { textColumn = 'text', labelColumn = 'label' }: LabelledColumns = {},
): LabelledText[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return nonEmpty(
    lines.map((content, index) => {
      const line = index + 1;
      let value: unknown;
      try {
        value = JSON.parse(content);
      } catch (error) {
        throw formatError(source, line, `is no JSON: ${(error as Error).message}`);
      }
      if (value === null || typeof value !== 'object' || Array.isArray(value)) {
        throw formatError(
          source,
          line,
          `has ${describe(value)}, expected an object with ${textColumn} and ${labelColumn}`,
        );
      }
      const fields = new Map<string, unknown>(Object.entries(value));
      const absent = [textColumn, labelColumn].find((name) => !fields.has(name));
      if (absent !== undefined) {
        throw formatError(
          source,
          line,
          `has no field ${describe(absent)}; it has ${[...fields.keys()].join(', ') || 'none'}`,
        );
      }
      const label = fields.get(labelColumn);
      return labelledText(
        fields.get(textColumn),
        typeof label === 'boolean' || Number.isSafeInteger(label) ? String(label) : label,
        { source, line, textColumn, labelColumn },
      );
    }),
    source,
  );
}

/** @throws XlformersError ERR_DATA_FORMAT naming source and line */
export function parseLabelledCsv(
  text: string,
  source: string,
  { textColumn = 'text', labelColumn = 'label' }: LabelledColumns = {},
): LabelledText[] {
  const [header, ...records] = parseCsv(text, source);
  const columns = (header as CsvRecord | undefined)?.fields.map((name) => name.trim()) ?? [];
  const [textPlace, labelPlace] = [textColumn, labelColumn].map((name) => {
    const column = columns.indexOf(name);
    if (column === -1 || columns.includes(name, column + 1)) {
      const problem = column === -1 ? 'names no column' : 'names more than one column';
      throw formatError(source, 1, `(the header) ${problem} '${name}'; it has ${columns.join(', ') || 'none'}`);
    }
    return column;
  }) as [number, number];
  return nonEmpty(
    records.map(({ line, fields }) =>
      labelledText(fields[textPlace], fields[labelPlace], { source, line, textColumn, labelColumn }),
    ),
    source,
  );
}

interface RecordPlace {
  textColumn: string;
  labelColumn: string;
  source: string;
  line: number;
}

function labelledText(text: unknown, label: unknown, place: RecordPlace): LabelledText {
  const { source, line, textColumn, labelColumn } = place;
  if (typeof text !== 'string')
    throw formatError(source, line, `has ${textColumn} ${describe(text)}, expected a string`);
  if (/\p{Surrogate}/u.test(text)) throw formatError(source, line, `has half a surrogate pair in its ${textColumn}`);
  if (typeof label !== 'string' || label === '') {
    throw formatError(
      source,
      line,
      `has ${labelColumn} ${describe(label)}, expected a string that is not empty, or an integer`,
    );
  }
  return { text, label };
}

function nonEmpty(examples: LabelledText[], source: string): LabelledText[] {
  if (examples.length === 0) {
    throw new XlformersError('ERR_DATA_FORMAT', `${source}: holds no examples, expected at least one`);
  }
  return examples;
}

function formatError(source: string, line: number, problem: string): XlformersError {
  return new XlformersError('ERR_DATA_FORMAT', `${source}: line ${line} ${problem}`);
}

/** All labels, each once: numbers by value, other names by their characters. The place of a label is its class. */
export function labelNames(examples: Iterable<LabelledText>): string[] {
  const names = [...new Set([...examples].map(({ label }) => label))];
  const numeric = names.every((name) => /^-?\d+$/.test(name));
  return names.sort((a, b) => (numeric ? Number(a) - Number(b) : a < b ? -1 : 1));
}

/** What the words of a random place mean, beside the epoch. */
const purposes = { shuffle: 1, split: 2 } as const;

/**
 * Examples held out for validation: the share of each label, drawn by seed. Equal texts stay together, so that none is both learnt
 * and judged. The order of the file is kept on both sides.
 * @param validShare in [0, 1)
 * @throws XlformersError ERR_ARG_RANGE
 */
export function splitExamples(
  examples: readonly LabelledText[],
  validShare: number,
  seed: number,
): { train: LabelledText[]; valid: LabelledText[] } {
  if (typeof validShare !== 'number' || !(validShare >= 0 && validShare < 1)) {
    throw argumentError('ERR_ARG_RANGE', 'validShare', validShare, 'a number in [0, 1)');
  }
  /** By label, the texts first seen with it. */
  const textsOf = new Map<string, string[]>();
  const counts = new Map<string, number>();
  for (const { text, label } of examples) {
    const count = counts.get(text) ?? 0;
    counts.set(text, count + 1);
    if (count > 0) continue;
    const texts = textsOf.get(label) ?? [];
    texts.push(text);
    textsOf.set(label, texts);
  }
  const held = new Set<string>();
  labelNames(examples).forEach((label, index) => {
    const texts = textsOf.get(label) ?? [];
    const goal = Math.floor(validShare * texts.reduce((sum, text) => sum + (counts.get(text) as number), 0));
    let taken = 0;
    for (const place of new DataRandom(seed, [index, 0, purposes.split]).permutation(texts.length)) {
      const text = texts[place] as string;
      const count = counts.get(text) as number;
      if (taken + count > goal) continue;
      held.add(text);
      taken += count;
    }
  });
  return {
    train: examples.filter(({ text }) => !held.has(text)),
    valid: examples.filter(({ text }) => held.has(text)),
  };
}

export interface LabelledBatch {
  texts: string[];
  /** Classes: places in the list of labels. */
  labels: Int32Array;
  /** Places of the examples in the data. */
  indices: Int32Array;
  epoch: number;
  /** Of the batch in its epoch. */
  index: number;
}

/** Where a stream of batches stands: the next one. */
export interface LabelledPosition {
  epoch: number;
  index: number;
}

/**
 * Batches of examples, in an order that is drawn anew in each epoch. The order is a function of seed and epoch: a position is all
 * that resuming needs. The last batch of an epoch may be smaller.
 */
export class LabelledBatches {
  private current: LabelledPosition = { epoch: 0, index: 0 };
  private order: { epoch: number; indices: Int32Array } | null = null;
  private readonly classes: Int32Array;

  /**
   * @param labels the list of labels, as `labelNames` gives it for the training examples
   * @param seed null: the order of the examples, as for evaluation
   * @param name of the examples, for errors
   * @throws XlformersError ERR_ARG_RANGE, ERR_DATA_FORMAT for a label that is not in the list
   */
  constructor(
    private readonly examples: readonly LabelledText[],
    labels: readonly string[],
    readonly batchSize: number,
    private readonly seed: number | null,
    name = 'examples',
  ) {
    if (examples.length === 0) throw argumentError('ERR_ARG_RANGE', name, examples, 'at least one example');
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw argumentError('ERR_ARG_RANGE', 'batchSize', batchSize, 'an integer >= 1');
    }
    this.classes = Int32Array.from(examples, ({ label }, index) => {
      const place = labels.indexOf(label);
      if (place === -1) {
        throw new XlformersError(
          'ERR_DATA_FORMAT',
          `${name}[${index}]: got label ${describe(label)}, expected one of ${labels.join(', ')}`,
        );
      }
      return place;
    });
  }

  get batchesPerEpoch(): number {
    return Math.ceil(this.examples.length / this.batchSize);
  }

  /** The batch at a place, or null after the last of the epoch. */
  at({ epoch, index }: LabelledPosition): LabelledBatch | null {
    if (index >= this.batchesPerEpoch) return null;
    const indices = this.orderOf(epoch).slice(index * this.batchSize, (index + 1) * this.batchSize);
    return {
      texts: Array.from(indices, (place) => (this.examples[place] as LabelledText).text),
      labels: indices.map((place) => this.classes[place] as number),
      indices,
      epoch,
      index,
    };
  }

  /** The next batch; after the last of an epoch comes the first of the next. */
  next(): LabelledBatch {
    if (this.current.index >= this.batchesPerEpoch) this.current = { epoch: this.current.epoch + 1, index: 0 };
    const batch = this.at(this.current) as LabelledBatch;
    this.current.index += 1;
    return batch;
  }

  /** Of the next batch. */
  state(): LabelledPosition {
    return { ...this.current };
  }

  restore(position: LabelledPosition): void {
    this.current = { ...position };
  }

  private orderOf(epoch: number): Int32Array {
    if (this.order?.epoch !== epoch) {
      const { length } = this.examples;
      const indices =
        this.seed === null
          ? Int32Array.from({ length }, (_, index) => index)
          : new DataRandom(this.seed, [epoch, 0, purposes.shuffle]).permutation(length);
      this.order = { epoch, indices };
    }
    return this.order.indices;
  }
}
