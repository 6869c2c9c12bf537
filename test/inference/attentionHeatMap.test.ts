import { attentionHeatMap } from '../../lib';
import { type Element, parseXml } from '../support/xml';

const uniform = (tokens: string[]) => ({
  ...{ layer: 2, head: 1, queries: tokens, keys: tokens },
  weights: new Float32Array(tokens.length ** 2).fill(1 / tokens.length),
});
const number = (element: Element, name: string) => Number(element.attributes[name]);
const cellsOf = (elements: Element[]) =>
  elements.flatMap((element, index) => {
    const title = elements[index + 1];
    return element.name === 'rect' && title?.name === 'title' ? [{ ...element, tip: title.text }] : [];
  });

test('a cell for each pair, darker for more, with its number', () => {
  const svg = attentionHeatMap({
    ...{ layer: 0, head: 3, queries: ['a', 'b'], keys: ['memory', 'a', 'b'] },
    weights: Float32Array.of(0.75, 0.25, 0, 0.125, 0.375, 0.5),
  });
  const elements = parseXml(svg);
  expect(elements[0]).toMatchObject({ name: 'svg', attributes: { xmlns: 'http://www.w3.org/2000/svg', role: 'img' } });
  const cells = cellsOf(elements);
  expect(cells.map(({ tip }) => tip)).toEqual([
    'a → memory: 0.7500',
    'a → a: 0.2500',
    'a → b: 0.0000',
    'b → memory: 0.1250',
    'b → a: 0.3750',
    'b → b: 0.5000',
  ]);
  // Three columns and two rows.
  expect(new Set(cells.map((cell) => cell.attributes.x)).size).toBe(3);
  expect(new Set(cells.map((cell) => cell.attributes.y)).size).toBe(2);
  const falling = [0, 5, 4, 1, 3, 2].map((index) => parseInt(cells[index]!.attributes.fill!.slice(1, 3), 16));
  expect(falling).toEqual([...new Set(falling)].sort((a, b) => a - b));
  const texts = elements.filter(({ name }) => name === 'text').map(({ text }) => text);
  expect(texts).toEqual(expect.arrayContaining(['Attention of layer 0, head 3', 'memory', '0.75', '0.38', '0.8', '0']));
});

test('everything lies inside the picture', () => {
  for (const tokens of [
    ['x'],
    ['▁Antidisestablishmentarianism', '▁of', '東京'],
    Array.from({ length: 200 }, () => '▁go'),
  ]) {
    const elements = parseXml(
      attentionHeatMap(uniform(tokens), 'A title that is a good deal longer than the map is wide'),
    );
    const [, , width, height] = elements[0]!.attributes.viewBox!.split(' ').map(Number) as [
      number,
      number,
      number,
      number,
    ];
    const outside = elements.filter(
      (each) =>
        each.name === 'rect' &&
        each.attributes.x !== undefined &&
        (number(each, 'x') < 0 ||
          number(each, 'y') < 0 ||
          number(each, 'x') + number(each, 'width') > width ||
          number(each, 'y') + number(each, 'height') > height),
    );
    expect(outside).toEqual([]);
    expect(cellsOf(elements)).toHaveLength(tokens.length ** 2);
  }
});

test('labels are escaped, and made visible', () => {
  const tokens = ['<mask>', '&"\'', ' ', '\n', '\t', '\u0000', '\ud800', '\uffff', 'a'.repeat(40)];
  const elements = parseXml(attentionHeatMap(uniform(tokens), '<script>alert("&")</script>'));
  const texts = elements.filter(({ name }) => name === 'text').map(({ text }) => text);
  const labels = ['<mask>', '&"\'', '␣', '\\n', '\\t', '␀', '\ufffd', '\ufffd', `${'a'.repeat(17)}…`];
  expect(texts).toEqual(expect.arrayContaining([...labels, '<script>alert("&")</script>']));
  expect(elements.some(({ name }) => name === 'script')).toBe(false);
});

test('a map that nobody could read is refused', () => {
  expect(() => attentionHeatMap(uniform(Array.from({ length: 201 }, () => 'x')))).toThrow(
    /has 201 tokens, .* at most 200/,
  );
});
