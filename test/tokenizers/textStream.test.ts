import { ByteLevelTokenizer, XLNetTokenizer } from '../../lib';
import { TextStream } from '../../lib/tokenizers/textStream';
import { fixturePath } from '../support/fixtures';

const text = 'Hello, world! Ça coûte 3,50 €; naïve 漢字 and 👩‍👩‍👧 emoji… "quoted" words.';

/** What each id adds. */
function parts(stream: TextStream, ids: Iterable<number>): string[] {
  return [...Array.from(ids, (id) => stream.push(id)), stream.end()];
}

describe('TextStream', () => {
  const bytes = new ByteLevelTokenizer();
  const decodeBytes = (ids: readonly number[]) => bytes.decode(ids);

  test('hands out whole characters of bytes', () => {
    const all = parts(new TextStream(decodeBytes), bytes.encode(text));
    expect(all.join('')).toBe(text);
    expect(all.some((part) => part.includes('\uFFFD'))).toBe(false);
    expect(all.filter((part) => part === '').length).toBeGreaterThan(10);
  });

  test('goes on inside a character that the text before began', () => {
    const ids = bytes.encode('3 €');
    expect(parts(new TextStream(decodeBytes, ids.slice(0, 3)), ids.slice(3))).toEqual(['', '€', '']);
  });

  test('shows broken bytes once others follow, or at the end', () => {
    expect(parts(new TextStream(decodeBytes), [0x61, 0xe2, 0x62, 0xff])).toEqual(['a', '', '\uFFFDb', '', '\uFFFD']);
  });

  test.each(['tokenizer.json', 'spiece.model'])('keeps the spaces between pieces of XLNet: %s', async (file) => {
    const tokenizer = await XLNetTokenizer.fromFile(fixturePath('tokenizers', 'xlnet-small', file));
    const decode = (ids: readonly number[]) => tokenizer.decode(ids);
    const { ids } = tokenizer.encode(text, { addSpecialTokens: false });
    const whole = tokenizer.decode(ids);
    expect(parts(new TextStream(decode), ids).join('')).toBe(whole);
    for (let cut = 1; cut < ids.length; cut += 3) {
      const before = tokenizer.decode(ids.slice(0, cut));
      expect(before + parts(new TextStream(decode, ids.slice(0, cut)), ids.slice(cut)).join('')).toBe(whole);
    }
  });

  test('a long text before is not decoded along', () => {
    const lengths: number[] = [];
    const decode = (ids: readonly number[]) => {
      lengths.push(ids.length);
      return bytes.decode(ids);
    };
    const stream = new TextStream(decode, bytes.encode('x'.repeat(1000)));
    expect(parts(stream, bytes.encode('yz'))).toEqual(['y', 'z', '']);
    expect(Math.max(...lengths)).toBeLessThan(70);
  });

  test('what a detokenizer changes afterwards is shown again from there on', () => {
    const decode = (ids: readonly number[]) =>
      ids
        .map((id) => ['1', ' @,@ ', '000'][id])
        .join('')
        .replace(/ @,@ (?=\d)/, ',');
    expect(parts(new TextStream(decode), [0, 1, 2])).toEqual(['1', ' @,@ ', ',000', '']);
  });
});
