import type { Writable } from 'node:stream';

const barWidth = 24;
/** Milliseconds between lines where the terminal cannot redraw. */
const lineInterval = 10_000;

/** What a progress line shows besides the bar. */
export interface ProgressFigures {
  done: number;
  total: number;
  /** Shown in this order: "loss 1.234". */
  fields: readonly (readonly [name: string, value: string])[];
  /** Seconds to go. */
  secondsLeft: number;
}

/** A progress bar on a terminal; a line now and then elsewhere (a log file, CI). */
export class ProgressBar {
  private lastDraw = -Infinity;

  constructor(
    private readonly stream: Writable & { isTTY?: boolean; columns?: number },
    private readonly label: string,
  ) {}

  update(figures: ProgressFigures): void {
    const now = performance.now();
    const interval = this.stream.isTTY ? 100 : lineInterval;
    if (now - this.lastDraw < interval && figures.done < figures.total) return;
    this.lastDraw = now;
    const line = this.render(figures);
    this.stream.write(
      this.stream.isTTY ? `\r\u001b[2K${line.slice(0, (this.stream.columns ?? 120) - 1)}` : `${line}\n`,
    );
  }

  /** Ends the line, so that other output starts on its own. */
  end(): void {
    if (this.stream.isTTY && this.lastDraw > -Infinity) this.stream.write('\n');
    this.lastDraw = -Infinity;
  }

  private render({ done, total, fields, secondsLeft }: ProgressFigures): string {
    const share = total > 0 ? Math.min(1, done / total) : 1;
    const filled = Math.round(share * barWidth);
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
    const details = fields.map(([name, value]) => `${name} ${value}`).join('  ');
    return `${this.label} ${bar} ${done}/${total}  ${details}  ${formatDuration(secondsLeft)} left`;
  }
}

/** "1:05" or "2:03:04". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-:--';
  const whole = Math.max(0, Math.round(seconds));
  const pad = (value: number) => String(value).padStart(2, '0');
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}
