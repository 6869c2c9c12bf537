import { XlformersError } from '../errors';
import { escapeXml } from '../svg';
import type { AttentionWeights } from './attentionWeights';

/** Beyond it a map is too large to be read. */
const maxTokens = 200;
/** Cells are as large as fits, within these pixels. */
const cellRange = { smallest: 16, largest: 40, mapSize: 620 };
const fontSize = 12;
const longestLabel = 18;
const padding = 24;
/** From no attention to the most, light to dark. */
const colours = ['#f4f7fb', '#cfe0f3', '#96bfe6', '#4f8fcf', '#2160ac', '#0b2f66'];

/**
 * An SVG of what each token (a row) looks at (the columns), the darker the more. Tooltips and, in small maps, the cells have numbers.
 * @throws XlformersError ERR_ARG_RANGE for more than 200 tokens
 */
export function attentionHeatMap({ queries, keys, weights, layer, head }: AttentionWeights, title?: string): string {
  const [rows, columns] = [queries.length, keys.length];
  if (columns > maxTokens) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `text: has ${columns} tokens, expected at most ${maxTokens} in a heat map`,
    );
  }
  const { smallest, largest, mapSize } = cellRange;
  const cell = Math.min(largest, Math.max(smallest, Math.floor(mapSize / columns)));
  const [rowLabels, columnLabels] = [queries.map(labelOf), keys.map(labelOf)];
  const widest = (labels: string[]) => Math.max(...labels.map(textWidth));
  // Column labels rise to the right at 45 degrees; the last one reaches beyond the map.
  const rise = Math.ceil(widest(columnLabels) * Math.SQRT1_2) + fontSize;
  const left = padding + fontSize + 12 + Math.ceil(widest(rowLabels)) + 8;
  const top = padding + 46 + rise + 8;
  const [mapWidth, mapHeight] = [columns * cell, rows * cell];
  const legendLeft = left + mapWidth + Math.max(rise - cell / 2, 0) + 16;
  const heading = title ?? `Attention of layer ${layer}, head ${head}`;
  const width = Math.max(legendLeft + 62, left + textWidth(heading) * 1.35) + padding;
  const height = top + Math.max(mapHeight, legendHeight) + padding;
  const scaleEnd = Math.min(1, niceCeiling(weights.reduce((most, weight) => Math.max(most, weight), 0)));

  const label = (text: string, attributes: string) => `<text ${attributes}>${escapeXml(text)}</text>`;
  const rowTexts = rowLabels.map((text, row) =>
    label(text, `x="${left - 8}" y="${top + (row + 0.5) * cell + fontSize * 0.35}" text-anchor="end"`),
  );
  const columnTexts = columnLabels.map((text, column) =>
    label(text, `transform="translate(${left + (column + 0.5) * cell + fontSize * 0.3} ${top - 8}) rotate(-45)"`),
  );
  const cells: string[] = [];
  const numbers = cell >= 30;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const weight = weights[row * columns + column] as number;
      const share = weight / scaleEnd;
      const [x, y] = [left + column * cell, top + row * cell];
      const tip = `${rowLabels[row]} → ${columnLabels[column]}: ${weight.toFixed(4)}`;
      cells.push(
        `<rect x="${x}" y="${y}" width="${cell - 1}" height="${cell - 1}" fill="${colourAt(share)}">` +
          `<title>${escapeXml(tip)}</title></rect>`,
      );
      if (numbers && share >= 0.05) {
        const ink = share > 0.5 ? '#ffffff' : '#3b4252';
        const place = `x="${x + (cell - 1) / 2}" y="${y + cell / 2 + 3.5}" text-anchor="middle"`;
        cells.push(`<text ${place} font-size="10" fill="${ink}" pointer-events="none">${weight.toFixed(2)}</text>`);
      }
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${Math.ceil(width)} ${height}" width="${Math.ceil(width)}" height="${height}" ` +
      `role="img" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="${fontSize}" fill="#3b4252">`,
    `<title>${escapeXml(heading)}</title>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    label(heading, `x="${padding}" y="${padding + 12}" font-size="15" font-weight="600"`),
    label(
      'A row is a token that looks; columns are what it looks at.',
      `x="${padding}" y="${padding + 32}" fill="#6b7280"`,
    ),
    ...columnTexts,
    ...rowTexts,
    ...cells,
    legend(legendLeft, top, scaleEnd),
    '</svg>',
    '',
  ].join('\n');
}

const legendHeight = 140;

/** A bar from no attention (bottom) to the scale's end (top). */
function legend(x: number, y: number, end: number): string {
  const stops = colours.map(
    (colour, index) => `<stop offset="${index / (colours.length - 1)}" stop-color="${colour}"/>`,
  );
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = y + legendHeight * (1 - share);
    const value = (end * share).toPrecision(3).replace(/\.?0+$/, '');
    return (
      `<line x1="${x + 14}" x2="${x + 18}" y1="${at}" y2="${at}" stroke="#9aa3b2"/>` +
      `<text x="${x + 22}" y="${at + 4}" font-size="11">${value}</text>`
    );
  });
  return (
    `<defs><linearGradient id="scale" x1="0" x2="0" y1="1" y2="0">${stops.join('')}</linearGradient></defs>` +
    `<rect x="${x}" y="${y}" width="14" height="${legendHeight}" fill="url(#scale)" stroke="#c5ccd8" stroke-width="0.5"/>` +
    ticks.join('')
  );
}

/** Linear between the two nearest of the colours. */
function colourAt(share: number): string {
  const place = Math.min(1, Math.max(0, share)) * (colours.length - 1);
  const below = Math.min(Math.floor(place), colours.length - 2);
  const channels = [1, 3, 5].map((at) => {
    const [low, high] = [below, below + 1].map((index) => parseInt((colours[index] as string).slice(at, at + 2), 16));
    const value = Math.round((low as number) + ((high as number) - (low as number)) * (place - below));
    return value.toString(16).padStart(2, '0');
  });
  return `#${channels.join('')}`;
}

/** The least of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below the value. */
function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value * (1 - 1e-6)) as number;
  return step * power;
}

/** A token as a label: white space made visible, long ones cut. */
function labelOf(token: string): string {
  const names: Record<string, string> = { ' ': '␣', '\n': '\\n', '\t': '\\t', '\r': '\\r' };
  const characters = [...token].map((character) => names[character] ?? character);
  const shown = characters.length > longestLabel ? [...characters.slice(0, longestLabel - 1), '…'] : characters;
  return shown.join('');
}

/** About as many pixels as a label needs: East Asian characters are square, others a little over half as wide. */
function textWidth(text: string): number {
  const wide =
    /[\u1100-\u115f\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60]|[\u{1f300}-\u{3fffd}]/u;
  return [...text].reduce((sum, character) => sum + (wide.test(character) ? 1 : 0.62) * fontSize, 0);
}
