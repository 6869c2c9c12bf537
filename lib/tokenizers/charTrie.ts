/**
 * A trie over UTF-16 code units. Children stand in one hash table keyed by (node, unit): no search for room as a double array needs it,
 * and a step costs one multiplication and usually one probe. Node 0 is the root.
 */
export class CharTrie {
  /** For every node the value of the key that ends there, or -1. */
  private values = new Int32Array(64).fill(-1);
  private parents = new Int32Array(64);
  private units = new Uint16Array(64);
  private slots = new Int32Array(256);
  private mask = 255;
  private nodes = 1;

  /** Adds a key, or gives it another value. The empty key is no key. */
  set(key: string, value: number): void {
    let node = 0;
    for (let index = 0; index < key.length; index += 1) {
      const unit = key.charCodeAt(index);
      node = this.step(node, unit) || this.addChild(node, unit);
    }
    if (node !== 0) this.values[node] = value;
  }

  /** The child of `node` by a code unit; 0 when there is none. */
  step(node: number, unit: number): number {
    const { slots, parents, units, mask } = this;
    for (let slot = hash(node, unit) & mask; ; slot = (slot + 1) & mask) {
      const child = slots[slot] as number;
      if (child === 0 || (parents[child] === node && units[child] === unit)) return child;
    }
  }

  /** The value of the key that ends at this node, or -1. */
  value(node: number): number {
    return this.values[node] as number;
  }

  /** The value of a key, or -1. */
  get(key: string): number {
    let node = 0;
    for (let index = 0; index < key.length; index += 1) {
      node = this.step(node, key.charCodeAt(index));
      if (node === 0) return -1;
    }
    return this.value(node);
  }

  /** The length of the longest key that stands at `index` of the text; 0 when there is none. */
  longest(text: string, index: number): number {
    let node = 0;
    let longest = 0;
    for (let end = index; end < text.length; end += 1) {
      node = this.step(node, text.charCodeAt(end));
      if (node === 0) break;
      if (this.value(node) >= 0) longest = end + 1 - index;
    }
    return longest;
  }

  private addChild(parent: number, unit: number): number {
    if (this.nodes === this.values.length) this.grow();
    const child = this.nodes;
    this.nodes += 1;
    this.parents[child] = parent;
    this.units[child] = unit;
    this.insert(child);
    return child;
  }

  private insert(child: number): void {
    let slot = hash(this.parents[child] as number, this.units[child] as number) & this.mask;
    while (this.slots[slot] !== 0) slot = (slot + 1) & this.mask;
    this.slots[slot] = child;
  }

  private grow(): void {
    const capacity = this.values.length * 2;
    const values = new Int32Array(capacity).fill(-1);
    values.set(this.values);
    const parents = new Int32Array(capacity);
    parents.set(this.parents);
    const units = new Uint16Array(capacity);
    units.set(this.units);
    Object.assign(this, { values, parents, units });
    // At most a quarter full: a miss, the usual end of a walk, then meets an empty slot almost at once.
    this.mask = capacity * 4 - 1;
    this.slots = new Int32Array(capacity * 4);
    for (let child = 1; child < this.nodes; child += 1) this.insert(child);
  }
}

function hash(node: number, unit: number): number {
  const mixed = Math.imul(node, 0x9e3779b1) ^ Math.imul(unit, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
