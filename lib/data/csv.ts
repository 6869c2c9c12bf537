import { XlformersError } from '../errors';

export interface CsvRecord {
  /** Of the file, where the record begins; counts from 1. */
  line: number;
  fields: string[];
}

/**
 * The records of a CSV text, by RFC 4180: commas between fields; fields with commas, quotes or line breaks stand in quotes, a quote
 * within them doubled. Lines end with CRLF or LF. Every record has as many fields as the first.
 * @param source named in errors, such as the path
 * @throws XlformersError ERR_DATA_FORMAT naming source and line
 */
export function parseCsv(text: string, source: string): CsvRecord[] {
  return new CsvParser(text, source).records();
}

class CsvParser {
  private position = 0;
  private line = 1;

  constructor(
    private readonly text: string,
    private readonly source: string,
  ) {}

  records(): CsvRecord[] {
    const records: CsvRecord[] = [];
    while (this.position < this.text.length) {
      const { line } = this;
      const fields = this.record();
      const expected = records[0]?.fields.length ?? fields.length;
      if (fields.length !== expected) {
        throw this.error(line, `has ${fields.length} fields, expected ${expected}; fields with commas need quotes`);
      }
      records.push({ line, fields });
    }
    return records;
  }

  private record(): string[] {
    const fields: string[] = [];
    for (;;) {
      fields.push(this.text[this.position] === '"' ? this.quoted() : this.plain());
      if (this.text[this.position] !== ',') break;
      this.position += 1;
    }
    this.lineEnd();
    return fields;
  }

  private plain(): string {
    const start = this.position;
    // Every field is searched once from where it starts, so the whole text once.
    const special = /[",\r\n]/g;
    special.lastIndex = start;
    this.position = special.exec(this.text)?.index ?? this.text.length;
    if (this.text[this.position] === '"') {
      throw this.error(
        this.line,
        'has a quote inside an unquoted field; put the field in quotes and double those within',
      );
    }
    return this.text.slice(start, this.position);
  }

  private quoted(): string {
    const { line } = this;
    let value = '';
    for (;;) {
      const start = this.position + 1;
      const end = this.text.indexOf('"', start);
      if (end === -1) throw this.error(line, 'opens a quote that is never closed');
      const part = this.text.slice(start, end);
      for (let at = part.indexOf('\n'); at !== -1; at = part.indexOf('\n', at + 1)) this.line += 1;
      value += part;
      this.position = end + 1;
      if (this.text[this.position] !== '"') return value;
      value += '"';
    }
  }

  private lineEnd(): void {
    const { text } = this;
    if (this.position === text.length) return;
    if (text.startsWith('\r\n', this.position)) this.position += 2;
    else if (text[this.position] === '\n') this.position += 1;
    else if (text[this.position] === '\r') throw this.error(this.line, 'has a carriage return without a line feed');
    else throw this.error(this.line, 'goes on after a closing quote; expected a comma or the end of the line');
    this.line += 1;
  }

  private error(line: number, problem: string): XlformersError {
    return new XlformersError('ERR_DATA_FORMAT', `${this.source}: line ${line} ${problem}`);
  }
}
