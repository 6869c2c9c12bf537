/** Decoding with memory and without, whatever the architecture. */
import { noGrad } from '../autograd';
import type { Device } from '../device';
import { Memory } from '../nn/memory';
import { gatherRows, concatenate } from '../ops/shape';
import { scope } from '../scope';
import type { Tensor } from '../tensor';
import type { DecodingSession } from './decoding';

/** What an architecture's pass leaves. */
export interface Read {
  /** Of the next token [rows, vocabSize]; null unless asked for. */
  scores: Tensor | null;
  mems: Memory;
}

/** The passes of an architecture that carries memory, over rows of equal length. */
export interface MemoryReader {
  readonly device: Device;
  /** Tokens before the newest that each step reads again. */
  readonly again: number;
  /** Tokens of a prompt read at a time. */
  readonly segmentLength: number;
  /** @param last whether the next token's scores are wanted */
  read(ids: readonly Int32Array[], mems: Memory | undefined, last: boolean): Read;
}

type Part = Read & { scores: Tensor };

/**
 * Decoding with memory. Prompts of equal length are read together and others apart, so that no padding is ever read; then their
 * memories are joined into one batch, where a number per text hides what the shorter ones lack.
 */
export class MemorySession implements DecodingSession {
  private mems: Memory | undefined;
  /** The newest tokens of each text, as many as a step reads. */
  private recent: readonly Int32Array[] = [];

  constructor(private readonly reader: MemoryReader) {}

  async start(prompts: readonly Int32Array[], signal?: AbortSignal): Promise<Tensor> {
    const groups = textsByLength(prompts);
    const parts: Part[] = [];
    try {
      for (const texts of groups) {
        const rows = texts.map((text) => prompts[text] as Int32Array);
        parts.push(await this.readPrompts(rows, signal));
      }
      const read = groups.flat();
      const order = prompts.map((_, text) => read.indexOf(text));
      const { scores, mems } = noGrad(() =>
        scope(() => ({
          scores: gatherRows(concatenate(parts.map((part) => part.scores)), order),
          mems: Memory.join(parts.map((part) => part.mems)).select(order),
        })),
      );
      this.mems = mems;
      this.recent = prompts.map((prompt) => this.newest(prompt));
      return scores;
    } finally {
      for (const { scores, mems } of parts) {
        scores.dispose();
        mems.dispose();
      }
    }
  }

  step(ids: ArrayLike<number>): Tensor {
    this.recent = this.recent.map((tokens, text) => this.newest([...tokens, ids[text] as number]));
    const { scores, mems } = this.read(this.recent, this.mems, true);
    this.mems?.dispose();
    this.mems = mems;
    return scores as Tensor;
  }

  keep(texts: readonly number[]): void {
    const { mems } = this;
    this.recent = texts.map((text) => this.recent[text] as Int32Array);
    this.mems = mems && scope(() => mems.select(texts));
    mems?.dispose();
  }

  dispose(): void {
    this.mems?.dispose();
    this.mems = undefined;
  }

  /** Rows of equal length, segment by segment. */
  private async readPrompts(rows: readonly Int32Array[], signal: AbortSignal | undefined): Promise<Part> {
    const { device, segmentLength } = this.reader;
    const length = (rows[0] as Int32Array).length;
    let mems: Memory | undefined;
    try {
      for (let start = 0; ; start += segmentLength) {
        signal?.throwIfAborted();
        const last = start + segmentLength >= length;
        const segment = rows.map((row) => row.subarray(start, last ? length : start + segmentLength));
        const read = this.read(segment, mems, last);
        mems?.dispose();
        mems = read.mems;
        if (last) return read as Part;
        await device.synchronize();
      }
    } catch (error) {
      mems?.dispose();
      throw error;
    }
  }

  private read(ids: readonly Int32Array[], mems: Memory | undefined, last: boolean): Read {
    return noGrad(() => scope(() => this.reader.read(ids, mems, last)));
  }

  private newest(tokens: ArrayLike<number>): Int32Array {
    return Int32Array.from(tokens).slice(-1 - this.reader.again);
  }
}

/** Decoding without memory: every step reads the whole texts. */
export class WholeTextSession implements DecodingSession {
  private texts: readonly Int32Array[] = [];

  /** @param read texts of any lengths; gives scores [texts, vocabSize] */
  constructor(private readonly read: (texts: readonly Int32Array[]) => Tensor) {}

  start(prompts: readonly Int32Array[]): Promise<Tensor> {
    this.texts = prompts;
    return Promise.resolve(this.scores());
  }

  step(ids: ArrayLike<number>): Tensor {
    this.texts = this.texts.map((text, index) => Int32Array.from([...text, ids[index] as number]));
    return this.scores();
  }

  keep(texts: readonly number[]): void {
    this.texts = texts.map((text) => this.texts[text] as Int32Array);
  }

  dispose(): void {
    this.texts = [];
  }

  private scores(): Tensor {
    return noGrad(() => scope(() => this.read(this.texts)));
  }
}

/** Indices of the texts, those of equal length together. */
function textsByLength(texts: readonly Int32Array[]): number[][] {
  const groups = new Map<number, number[]>();
  texts.forEach(({ length }, text) => groups.set(length, [...(groups.get(length) ?? []), text]));
  return [...groups.values()];
}
