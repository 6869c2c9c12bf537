/** Longer words are rare, and would make the size of a cache uncertain. */
export const longestKnownWord = 48;

/**
 * What words were split into, by the word, which is looked up where it stands in the text: no substring is made for a word that is known.
 * Two generations bound the size: when the younger is full the older is dropped, so that words in use stay.
 */
export class WordCache<T> {
  private young: Generation<T>;
  private old: Generation<T>;

  constructor(
    private readonly compute: (word: string) => T,
    private readonly capacity = 2 ** 16,
  ) {
    this.young = new Generation(capacity);
    this.old = new Generation(capacity);
  }

  /** For units [start, end) of the text, at most `longestKnownWord`. */
  get(text: string, start: number, end: number): T {
    let hash = 0x811c9dc5;
    for (let index = start; index < end; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
    hash ^= hash >>> 15;
    const known = this.young.find(hash, text, start, end);
    if (known >= 0) return this.young.values[known] as T;

    const before = this.old.find(hash, text, start, end);
    const word = detached(text.slice(start, end));
    const value = before >= 0 ? (this.old.values[before] as T) : this.compute(word);
    if (this.young.values.length === this.capacity) {
      this.old = this.young;
      this.young = new Generation(this.capacity);
    }
    this.young.add(hash, word, value);
    return value;
  }
}

/** A hash table with open addressing that only grows, up to its capacity. */
class Generation<T> {
  readonly values: T[] = [];
  private readonly words: string[] = [];
  private readonly hashes: number[] = [];
  /** Numbers of words plus one; 0 is free. */
  private slots = new Int32Array(1024);

  constructor(private readonly capacity: number) {}

  /** The number of a word, or -1. */
  find(hash: number, text: string, start: number, end: number): number {
    const mask = this.slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const number = (this.slots[slot] as number) - 1;
      if (number < 0) return -1;
      if (this.hashes[number] === hash && isAt(this.words[number] as string, text, start, end)) return number;
    }
  }

  add(hash: number, word: string, value: T): void {
    this.words.push(word);
    this.hashes.push(hash);
    this.values.push(value);
    const count = this.values.length;
    if (2 * count > this.slots.length && count <= this.capacity) {
      this.slots = new Int32Array(4 * this.slots.length);
      for (let number = 0; number < count; number += 1) this.insert(number);
    } else this.insert(count - 1);
  }

  private insert(number: number): void {
    const mask = this.slots.length - 1;
    let slot = (this.hashes[number] as number) & mask;
    while (this.slots[slot] !== 0) slot = (slot + 1) & mask;
    this.slots[slot] = number + 1;
  }
}

function isAt(word: string, text: string, start: number, end: number): boolean {
  if (word.length !== end - start) return false;
  for (let index = 0; index < word.length; index += 1) {
    if (word.charCodeAt(index) !== text.charCodeAt(start + index)) return false;
  }
  return true;
}

/** A slice of a string may keep all of that string alive; a copy does not. */
function detached(word: string): string {
  // The engine copies what is shorter.
  return word.length < 13 ? word : Buffer.from(word, 'utf16le').toString('utf16le');
}
