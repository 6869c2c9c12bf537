/** Decoding with memory and without, whatever the architecture. */
import { noGrad } from '../autograd';
import type { Device } from '../device';
import { Memory } from '../nn/memory';
import type { Sampler } from '../nn/sampler';
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

/** Steps of one token that leave their rows in a full memory, in place. */
export interface RingSteps {
  /** Whether the model is still what the steps are for: the same weights and memory length, not in training. */
  readonly current: boolean;
  /** @returns scores of the next token [rows, vocabSize] */
  step(ids: ArrayLike<number>): Tensor;
  /** A step that reads what the sampler drew last and lets it draw again. */
  advance(sampler: Sampler): void;
  /** The steps of some of the rows, in that order. */
  select(rows: readonly number[]): RingSteps;
  /** What is remembered, as passes that are no such steps take it. */
  memory(): Memory;
  dispose(): void;
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
  /** Steps over a memory that only this session has; it may be disposed afterwards. Null when it is not full. They read no token again. */
  ring?(mems: Memory): RingSteps | null;
}

type Part = Read & { scores: Tensor };

/**
 * Decoding with memory. Prompts of equal length are read together and others apart, so that no padding is ever read; then their
 * memories are joined into one batch, where a number per text hides what the shorter ones lack.
 */
export class MemorySession implements DecodingSession {
  private mems: Memory | undefined;
  /** In the place of `mems`, once they are full. */
  private ring: RingSteps | null = null;
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
    const ring = this.currentRing();
    if (ring) return ring.step(ids);
    const { scores, mems } = this.read(this.recent, this.mems, true);
    this.mems?.dispose();
    this.mems = mems;
    return scores as Tensor;
  }

  advance(sampler: Sampler): boolean {
    const ring = this.currentRing();
    ring?.advance(sampler);
    return ring !== null;
  }

  keep(texts: readonly number[]): void {
    const { mems, ring } = this;
    this.recent = texts.map((text) => this.recent[text] as Int32Array);
    this.ring = ring && ring.select(texts);
    ring?.dispose();
    this.mems = mems && scope(() => mems.select(texts));
    mems?.dispose();
  }

  dispose(): void {
    this.mems?.dispose();
    this.mems = undefined;
    this.ring?.dispose();
    this.ring = null;
  }

  /** The ring, if the memory can be one now. */
  private currentRing(): RingSteps | null {
    if (this.ring && !this.ring.current) this.leaveRing();
    if (!this.ring) this.enterRing();
    return this.ring;
  }

  private enterRing(): void {
    this.ring = (this.mems && this.reader.ring?.(this.mems)) ?? null;
    if (!this.ring) return;
    this.mems?.dispose();
    this.mems = undefined;
  }

  private leaveRing(): void {
    const { ring } = this;
    this.ring = null;
    this.mems = noGrad(() => ring?.memory());
    ring?.dispose();
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
