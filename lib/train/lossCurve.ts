import { escapeXml } from '../svg';
import type { LogEntry } from './runState';
import type { LossUnit } from './task';

const width = 760;
const height = 400;
const margin = { left: 64, right: 20, top: 40, bottom: 48 };

const bitsPerCharacter: LossUnit = { name: 'bits per character', nats: Math.LN2 };

/** An SVG of training and held-out loss over the steps. */
export function lossCurve(entries: readonly LogEntry[], title: string, unit: LossUnit = bitsPerCharacter): string {
  const points = (event: LogEntry['event']) =>
    entries.flatMap(({ event: kind, step, loss }) =>
      kind === event && loss !== null ? [[step, loss / unit.nats] as const] : [],
    );
  const steps = points('step');
  const held = points('evaluation');
  const all = [...steps, ...held];
  const lastStep = Math.max(1, ...all.map(([step]) => step));
  const values = all.map(([, loss]) => loss);
  const low = Math.floor(Math.min(...values, Infinity) * 2) / 2;
  const high = Math.ceil(Math.max(...values, -Infinity) * 2) / 2;
  const [bottom, top] = values.length > 0 ? [low, Math.max(high, low + 0.5)] : [0, 1];
  const x = (step: number) => margin.left + (step / lastStep) * (width - margin.left - margin.right);
  const y = (loss: number) =>
    height - margin.bottom - ((loss - bottom) / (top - bottom)) * (height - margin.top - margin.bottom);
  const path = (points: readonly (readonly [number, number])[]) =>
    points
      .map(([step, loss], index) => `${index === 0 ? 'M' : 'L'}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`)
      .join('');
  const ticks = (from: number, to: number) => Array.from({ length: 6 }, (_, index) => from + ((to - from) * index) / 5);
  const grid = ticks(bottom, top)
    .map(
      (loss) =>
        `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}" stroke="#e2e4e8"/>` +
        `<text x="${margin.left - 8}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(2)}</text>`,
    )
    .join('');
  const labels = ticks(0, lastStep)
    .map(
      (step) =>
        `<text x="${x(step).toFixed(1)}" y="${height - margin.bottom + 20}" text-anchor="middle">${Math.round(step)}</text>`,
    )
    .join('');
  const dots = held
    .map(([step, loss]) => `<circle cx="${x(step).toFixed(1)}" cy="${y(loss).toFixed(1)}" r="3.5" fill="#c2410c"/>`)
    .join('');
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#3b4252">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="${margin.left}" y="24" font-size="15" font-weight="600">${escapeXml(title)}</text>`,
    grid,
    labels,
    `<path d="${path(smooth(steps))}" fill="none" stroke="#1d4ed8" stroke-width="1.6"/>`,
    `<path d="${path(held)}" fill="none" stroke="#c2410c" stroke-width="1.6"/>${dots}`,
    `<text x="${width - margin.right}" y="24" text-anchor="end"><tspan fill="#1d4ed8">training</tspan> · <tspan fill="#c2410c">held out</tspan></text>`,
    `<text x="${(width + margin.left) / 2}" y="${height - 10}" text-anchor="middle">step</text>`,
    `<text transform="translate(16 ${height / 2}) rotate(-90)" text-anchor="middle">${escapeXml(unit.name)}</text>`,
    '</svg>',
    '',
  ].join('\n');
}

/** Means of consecutive steps, at most 300 points: single steps are noise. */
function smooth(points: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  const group = Math.max(1, Math.ceil(points.length / 300));
  const means: (readonly [number, number])[] = [];
  for (let start = 0; start < points.length; start += group) {
    const part = points.slice(start, start + group);
    const mean = (pick: 0 | 1) => part.reduce((sum, point) => sum + point[pick], 0) / part.length;
    means.push([mean(0), mean(1)]);
  }
  return means;
}
