import { keep } from '../scope';
import type { Tensor } from '../tensor';
import { type PackedWeight, packWeight, type RowRange, type WeightLayout } from '../ops/linear';

interface Entry {
  version: number;
  value: { dispose(): void } | null;
}

/** What follows from weights alone, kept while they do not change: packed weights, projected positions. */
export class InferenceCache {
  private readonly entries = new Map<string, Entry>();

  /** The packed form of a weight (or of some of its rows). */
  packed(weight: Tensor, rows?: RowRange, layout: WeightLayout = 'outIn'): PackedWeight | null {
    const key = `packed ${rows ? `${rows.first}+${rows.count}` : 'all'}`;
    return this.get(key, weight.version, () => {
      const packed = packWeight(weight, rows, layout);
      if (packed) keep(packed.tensor);
      return packed;
    });
  }

  /** A value of that version; `fits` may refuse one that is too small. */
  get<T extends { dispose(): void } | null>(
    key: string,
    version: number,
    build: () => T,
    fits: (value: T) => boolean = () => true,
  ): T {
    const entry = this.entries.get(key);
    if (entry && entry.version === version && fits(entry.value as T)) return entry.value as T;
    entry?.value?.dispose();
    const value = build();
    this.entries.set(key, { version, value });
    return value;
  }

  clear(): void {
    for (const { value } of this.entries.values()) value?.dispose();
    this.entries.clear();
  }
}
