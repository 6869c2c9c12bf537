/** The picture of speed in the README: how many times as fast as the faster PyTorch, a bar for each case. */
import { escapeXml } from '../../lib/svg';
import type { CaseResult } from './measure';

const width = 760;
const rowHeight = 38;
const left = 360;
const top = 56;
const barLength = width - left - 70;

/**
 * An SVG with a bar for PyTorch and one for this package per case; lengths are speeds, PyTorch's is 1.
 * @param note what ran where, written underneath
 */
export function speedPicture(results: readonly CaseResult[], note: string): string {
  const rows = results.flatMap(({ name, milliseconds, rivals }) =>
    rivals.length === 0 ? [] : [{ name, ratio: Math.min(...rivals.map((rival) => rival.milliseconds)) / milliseconds }],
  );
  const longest = Math.max(1, ...rows.map(({ ratio }) => ratio));
  const length = (ratio: number) => (barLength * ratio) / longest;
  const height = top + rows.length * rowHeight + 40;
  const bars = rows.map(({ name, ratio }, index) => {
    const y = top + index * rowHeight;
    return (
      `<text x="${left - 12}" y="${y + 18}" text-anchor="end">${escapeXml(name)}</text>` +
      `<rect x="${left}" y="${y + 2}" width="${length(ratio).toFixed(1)}" height="14" rx="2" fill="#1d4ed8"/>` +
      `<rect x="${left}" y="${y + 18}" width="${length(1).toFixed(1)}" height="8" rx="2" fill="#9aa3b2"/>` +
      `<text x="${(left + length(ratio) + 8).toFixed(1)}" y="${y + 14}" font-weight="600">${ratio.toFixed(1)} x</text>`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#3b4252">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="24" y="28" font-size="15" font-weight="600">Speed, PyTorch = 1</text>`,
    `<text x="${width - 24}" y="28" text-anchor="end"><tspan fill="#1d4ed8">xlformers</tspan> · <tspan fill="#7b8494">PyTorch, the faster of two ways</tspan></text>`,
    ...bars,
    `<text x="24" y="${height - 14}" font-size="11" fill="#7b8494">${escapeXml(note)}</text>`,
    '</svg>',
    '',
  ].join('\n');
}
