import { parseCsv } from '../../lib/data/csv';
import { TestRandom } from '../support/random';

const fieldsOf = (text: string) => parseCsv(text, 'x.csv').map(({ fields }) => fields);

describe('parseCsv', () => {
  test.each([
    ['', []],
    ['a,b', [['a', 'b']]],
    ['a,b\n', [['a', 'b']]],
    [
      'a,b\r\n1,2\r\n',
      [
        ['a', 'b'],
        ['1', '2'],
      ],
    ],
    [
      'a,\n,b\n',
      [
        ['a', ''],
        ['', 'b'],
      ],
    ],
    ['"a","b"\n', [['a', 'b']]],
    ['"a ""quoted"" word",""\n', [['a "quoted" word', '']]],
    ['"","""",""""""', [['', '"', '""']]],
    ['"one\ntwo\r\nthree",x', [['one\ntwo\r\nthree', 'x']]],
    ['"a,b",c\n', [['a,b', 'c']]],
    [' a , b ', [[' a ', ' b ']]],
    ['ä,日本\u2028', [['ä', '日本\u2028']]],
  ])('%j', (text, expected) => {
    expect(fieldsOf(text)).toEqual(expected);
  });

  test('lines are those of the file, also after fields of several lines', () => {
    expect(parseCsv('h,i\n"1\n2\n3",4\n"5",6\n', 'x.csv').map(({ line }) => line)).toEqual([1, 2, 5]);
  });

  test.each([
    ['a,b\n1\n', 'x.csv: line 2 has 1 fields, expected 2'],
    ['a,b\n1,2,3\n', 'x.csv: line 2 has 3 fields, expected 2; fields with commas need quotes'],
    ['a,b\n1,2\n\n', 'x.csv: line 3 has 1 fields, expected 2'],
    ['a\nb"c\n', 'x.csv: line 2 has a quote inside an unquoted field'],
    ['a\n"1\n2\n3', 'x.csv: line 2 opens a quote that is never closed'],
    ['a\n"1\n2"x\n', 'x.csv: line 3 goes on after a closing quote'],
    ['a\rb', 'x.csv: line 1 has a carriage return without a line feed'],
    ['"a"\rb', 'x.csv: line 1 has a carriage return without a line feed'],
  ])('refuses %j', (text, message) => {
    expect(() => parseCsv(text, 'x.csv')).toThrow(expect.objectContaining({ code: 'ERR_DATA_FORMAT' }));
    expect(() => parseCsv(text, 'x.csv')).toThrow(message);
  });

  test('reads back what a writer wrote', () => {
    const random = new TestRandom(1);
    const characters = ['a', 'é', ',', '"', '\n', '\r\n', ' ', '😀'];
    for (let round = 0; round < 300; round += 1) {
      const columns = random.integer(2, 4);
      const records = Array.from({ length: random.integer(1, 5) }, () =>
        Array.from({ length: columns }, () =>
          Array.from({ length: random.integer(0, 6) }, () => random.pick(characters)).join(''),
        ),
      );
      const newline = random.pick(['\n', '\r\n']);
      const quote = (field: string) =>
        /[",\r\n]/.test(field) || random.uniform() < 0.3 ? `"${field.replaceAll('"', '""')}"` : field;
      const text = records.map((fields) => fields.map(quote).join(',')).join(newline);
      expect(fieldsOf(text + (random.uniform() < 0.5 ? newline : ''))).toEqual(records);
    }
  });
});
