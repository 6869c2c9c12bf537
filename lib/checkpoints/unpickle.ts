/**
 * A pickle machine that executes nothing: the few globals that harmless checkpoints name are data here, and any other is refused by
 * name. Opcodes: CPython's Lib/pickletools.py.
 */
import { type ErrorCode, XlformersError } from '../errors';
import { narrow, PickleReader, refusePickle } from './pickleReader';

/** A Python tuple: apart from lists, so that it can be told from them. */
export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A class or function that the file names and that is on the list. */
export class PickleGlobal {
  constructor(
    readonly name: string,
    /** What calling it with arguments gives; absent: it may be named, not called. */
    readonly call?: (args: readonly PickleValue[], context: CallContext) => PickleValue,
  ) {}
}

/** What a call has at hand. */
export interface CallContext {
  /** @param code default ERR_PICKLE_STACK */
  fail(message: string, code?: ErrorCode): never;
  /** Counts entries that the call is about to copy: a few bytes of pickle can ask for many. */
  copy(entries: number): void;
}

/** Anything that a global's call made. */
export interface PickleObject {
  readonly kind: string;
}

/** An object of which nothing is needed: its arguments and its state are read over. */
export const opaqueObject: PickleObject = { kind: 'opaque' };

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleTuple
  | PickleGlobal
  | PickleObject
  | Map<PickleValue, PickleValue>
  | Set<PickleValue>;

export interface UnpickleOptions {
  /** For messages. */
  file: string;
  /** Allowed globals by "module name", besides collections of the standard library. */
  globals?: ReadonlyMap<string, PickleGlobal>;
  /** What a persistent id stands for; absent: none is allowed. */
  persistentLoad?: (id: PickleValue, fail: (message: string) => never) => PickleValue;
  /** Bytes of memory that each byte of the file may take. Default 8. */
  memoryPerByte?: number;
}

/**
 * A bound on memory, since one byte of a pickle can make a container of two hundred: what values cost is added up, roughly, whether they
 * are still needed or not. Real files stay far below: their text is most of what they make.
 */
const budget = { base: 2 ** 26, most: 2 ** 29 };
const cost = { value: 24, text: 32, bytes: 128, list: 64, container: 256, entry: 48, mark: 16, memo: 48 };

const makeMap = new PickleGlobal('collections.OrderedDict', (args, { fail, copy }) => {
  if (args.length === 0) return new Map();
  const [entries] = args;
  if (entries instanceof Map) {
    copy(entries.size);
    return new Map(entries);
  }
  if (!Array.isArray(entries)) return fail('a dictionary of something else than pairs');
  copy(entries.length);
  return new Map(
    entries.map((pair) => {
      const items = pair instanceof PickleTuple ? pair.items : Array.isArray(pair) ? pair : [];
      if (items.length !== 2) fail('a dictionary of something else than pairs');
      return [items[0] as PickleValue, items[1] as PickleValue];
    }),
  );
});

const standardGlobals = new Map<string, PickleGlobal>([
  ['collections OrderedDict', makeMap],
  ['collections Counter', makeMap],
  // Its first argument is the class of default values: a harmless type, never called.
  ['collections defaultdict', new PickleGlobal('collections.defaultdict', () => new Map())],
  ['__builtin__ int', new PickleGlobal('int')],
  ['builtins int', new PickleGlobal('int')],
]);

/**
 * @returns the value, and where the pickle ended: what follows is the caller's
 * @throws XlformersError ERR_PICKLE_* naming file and byte
 */
export function unpickle(bytes: Uint8Array, options: UnpickleOptions): { value: PickleValue; end: number } {
  return new PickleMachine(bytes, options).run();
}

class PickleMachine {
  private readonly reader: PickleReader;
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  private spent = 0;
  private readonly allowed: number;
  private opcodeAt = 0;

  constructor(
    bytes: Uint8Array,
    private readonly options: UnpickleOptions,
  ) {
    this.reader = new PickleReader(options.file, bytes);
    this.allowed = Math.min(budget.base + (options.memoryPerByte ?? 8) * bytes.length, budget.most);
  }

  run(): { value: PickleValue; end: number } {
    for (;;) {
      this.opcodeAt = this.reader.position;
      const opcode = this.reader.uint(1);
      if (opcode === 0x2e) {
        const value = this.pop();
        if (this.stack.length > 0 || this.marks.length > 0) this.fail(`${this.stack.length} values left over`);
        return { value, end: this.reader.position };
      }
      this.step(opcode);
    }
  }

  private step(opcode: number): void {
    const { reader } = this;
    switch (opcode) {
      case 0x80: {
        const protocol = reader.uint(1);
        if (protocol > 5) this.refuse('ERR_PICKLE_OPCODE', `protocol ${protocol}, expected at most 5`);
        return;
      }
      case 0x95: // FRAME: a hint for readers of streams
        if (reader.length64() > reader.remaining) this.refuse('ERR_PICKLE_TRUNCATED', 'a frame beyond the end');
        return;
      // Constants and numbers
      case 0x4e:
        return this.push(null); // N
      case 0x88:
        return this.push(true);
      case 0x89:
        return this.push(false);
      case 0x49:
        return this.push(this.decimalLine(true)); // I
      case 0x4a:
        return this.push(reader.int32()); // J
      case 0x4b:
        return this.push(reader.uint(1)); // K
      case 0x4d:
        return this.push(reader.uint(2)); // M
      case 0x4c:
        return this.push(this.decimalLine(false)); // L
      case 0x8a:
        return this.push(reader.long(reader.uint(1)));
      case 0x8b:
        return this.push(reader.long(this.length(reader.int32())));
      case 0x46:
        return this.push(this.floatLine()); // F
      case 0x47:
        return this.push(reader.float64()); // G
      // Text and bytes
      case 0x54:
        return this.push(reader.latin1(this.length(reader.int32()))); // T
      case 0x55:
        return this.push(reader.latin1(reader.uint(1))); // U
      case 0x56:
        return this.push(reader.line()); // V
      case 0x58:
        return this.push(reader.text(reader.uint(4))); // X
      case 0x8c:
        return this.push(reader.text(reader.uint(1)));
      case 0x8d:
        return this.push(reader.text(reader.length64()));
      case 0x42:
        return this.push(reader.take(reader.uint(4))); // B
      case 0x43:
        return this.push(reader.take(reader.uint(1))); // C
      case 0x8e:
      case 0x96:
        return this.push(reader.take(reader.length64()));
      // Containers
      case 0x5d:
        return this.push([]); // ]
      case 0x29:
        return this.push(new PickleTuple([])); // )
      case 0x7d:
        return this.push(new Map()); // }
      case 0x8f:
        return this.push(new Set());
      case 0x6c:
        return this.push(this.popMark()); // l
      case 0x74:
        return this.push(new PickleTuple(this.popMark())); // t
      case 0x85:
        return this.push(new PickleTuple(this.popMany(1)));
      case 0x86:
        return this.push(new PickleTuple(this.popMany(2)));
      case 0x87:
        return this.push(new PickleTuple(this.popMany(3)));
      case 0x64:
        return this.push(this.setItems(new Map(), this.popMark())); // d
      case 0x91:
        return this.push(this.makeSet(this.popMark()));
      case 0x61:
        return void this.list(1).push(this.pop()); // a
      case 0x65:
        return this.appendAll(this.popMark()); // e
      case 0x73:
        return this.setTop(this.popMany(2)); // s
      case 0x75:
        return this.setTop(this.popMark()); // u
      case 0x90:
        return this.addAll(this.popMark());
      // The stack
      case 0x28:
        this.spend(cost.mark);
        return void this.marks.push(this.stack.length); // (
      case 0x30:
        return void this.pop(); // 0
      case 0x31:
        return void this.popMark(); // 1
      case 0x32:
        return this.pushKnown(this.top()); // 2
      // The memo
      case 0x70:
        return this.remember(Number(reader.line())); // p
      case 0x71:
        return this.remember(reader.uint(1)); // q
      case 0x72:
        return this.remember(reader.uint(4)); // r
      case 0x94:
        return this.remember(this.memo.size);
      case 0x67:
        return this.pushKnown(this.recall(Number(reader.line()))); // g
      case 0x68:
        return this.pushKnown(this.recall(reader.uint(1))); // h
      case 0x6a:
        return this.pushKnown(this.recall(reader.uint(4))); // j
      // Names, calls, objects
      case 0x63:
        return this.push(this.global(reader.line(), reader.line())); // c
      case 0x93:
        return this.stackGlobal();
      case 0x52: // R
      case 0x81:
        return this.callTop(); // NEWOBJ: the class called with its arguments
      case 0x62:
        return this.build(); // b
      case 0x51:
        return this.push(this.persistent(this.pop())); // Q
      case 0x69: {
        const [module, name] = [reader.line(), reader.line()];
        this.global(module, name);
        return this.refuse('ERR_PICKLE_OPCODE', `an instance of '${module}.${name}', which harmless files do not need`);
      }
      default:
        this.refuse('ERR_PICKLE_OPCODE', `opcode 0x${opcode.toString(16)}, which harmless files do not need`);
    }
  }

  private refuse(code: Parameters<typeof refusePickle>[0], message: string): never {
    return refusePickle(code, this.options.file, this.opcodeAt, message);
  }

  private readonly fail = (message: string): never => this.refuse('ERR_PICKLE_STACK', message);

  private push(value: PickleValue): void {
    this.spend(costOf(value));
    this.stack.push(value);
  }

  /** Another reference to a value. */
  private pushKnown(value: PickleValue): void {
    this.spend(cost.value);
    this.stack.push(value);
  }

  private spend(bytes: number): void {
    this.spent += bytes;
    if (this.spent > this.allowed) {
      this.refuse(
        'ERR_PICKLE_LIMIT',
        `makes values of more than ${this.allowed} bytes, far more than its size calls for`,
      );
    }
  }

  private pop(): PickleValue {
    const floor = this.marks[this.marks.length - 1] ?? 0;
    if (this.stack.length <= floor) this.fail('an empty stack');
    return this.stack.pop() as PickleValue;
  }

  private popMany(count: number): PickleValue[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  private popMark(): PickleValue[] {
    const mark = this.marks.pop();
    if (mark === undefined) return this.fail('no mark on the stack');
    return this.stack.splice(mark);
  }

  private top(): PickleValue {
    const value = this.pop();
    this.stack.push(value);
    return value;
  }

  private length(value: number): number {
    return value >= 0 ? value : this.fail(`a negative length, ${value}`);
  }

  private decimalLine(mayBeBoolean: boolean): PickleValue {
    const text = this.reader.line().replace(/L$/, '');
    if (mayBeBoolean && (text === '00' || text === '01')) return text === '01';
    if (!/^[+-]?\d{1,400}$/.test(text)) return this.fail('an integer that is none');
    return narrow(BigInt(text));
  }

  private floatLine(): number {
    const text = this.reader.line();
    const value = Number(text);
    return text.trim() === '' || Number.isNaN(value) ? this.fail('a number that is none') : value;
  }

  /** The list below `above` more values. */
  private list(above: number): PickleValue[] {
    const value = this.stack[this.stack.length - 1 - above];
    return Array.isArray(value) ? value : this.fail('an append to something else than a list');
  }

  private appendAll(items: readonly PickleValue[]): void {
    const list = this.list(0);
    this.spend(items.length * cost.value);
    for (const item of items) list.push(item);
  }

  private makeSet(items: readonly PickleValue[]): Set<PickleValue> {
    this.spend(items.length * cost.entry);
    return new Set(items);
  }

  private addAll(items: readonly PickleValue[]): void {
    const set = this.top();
    if (!(set instanceof Set)) return this.fail('an addition to something else than a set');
    this.spend(items.length * cost.entry);
    for (const item of items) set.add(item);
  }

  private setTop(items: readonly PickleValue[]): void {
    const map = this.top();
    if (!(map instanceof Map)) return this.fail('an entry for something else than a dictionary');
    this.setItems(map, items);
  }

  private setItems(map: Map<PickleValue, PickleValue>, items: readonly PickleValue[]): Map<PickleValue, PickleValue> {
    if (items.length % 2 !== 0) this.fail('a key without a value');
    this.spend(items.length * cost.entry);
    for (let index = 0; index < items.length; index += 2) {
      map.set(items[index] as PickleValue, items[index + 1] as PickleValue);
    }
    return map;
  }

  private remember(index: number): void {
    if (!Number.isSafeInteger(index) || index < 0) this.fail('a memo index that is none');
    this.spend(cost.memo);
    this.memo.set(index, this.top());
  }

  private recall(index: number): PickleValue {
    const value = this.memo.get(index);
    return value === undefined ? this.fail(`memo ${index} was never set`) : value;
  }

  private global(module: string, name: string): PickleGlobal {
    const key = `${module} ${name}`;
    const found = standardGlobals.get(key) ?? this.options.globals?.get(key);
    if (found) return found;
    return this.refuse(
      'ERR_PICKLE_GLOBAL',
      `asks for '${module}.${name}', which is not on the list of harmless names; nothing was executed. ` +
        'Load the file with the program that wrote it, and save its tensors alone: model.state_dict(), or as safetensors',
    );
  }

  private stackGlobal(): void {
    const [module, name] = this.popMany(2);
    if (typeof module !== 'string' || typeof name !== 'string') return this.fail('a global whose name is no text');
    this.push(this.global(module, name));
  }

  private callTop(): void {
    const [callable, args] = this.popMany(2);
    if (!(callable instanceof PickleGlobal) || !callable.call) {
      const what = callable instanceof PickleGlobal ? `'${callable.name}'` : 'something that is no class or function';
      return this.refuse('ERR_PICKLE_OPCODE', `a call of ${what}, which harmless files do not need`);
    }
    if (!(args instanceof PickleTuple)) return this.fail('a call without a tuple of arguments');
    const context: CallContext = {
      fail: (message, code = 'ERR_PICKLE_STACK') => this.refuse(code, message),
      copy: (entries) => this.spend(cost.container + entries * 2 * cost.entry),
    };
    this.push(callable.call(args.items, context));
  }

  /** State of an object. State dicts carry `_metadata` this way, which nothing needs. */
  private build(): void {
    this.pop();
    const object = this.top();
    if (!(object instanceof Map) && object !== opaqueObject)
      this.refuse('ERR_PICKLE_OPCODE', 'state for something else than a dictionary');
  }

  private persistent(id: PickleValue): PickleValue {
    const { persistentLoad } = this.options;
    if (!persistentLoad)
      return this.refuse('ERR_PICKLE_OPCODE', 'a persistent id, which this kind of file does not have');
    return persistentLoad(id, (message) => {
      throw new XlformersError('ERR_TORCH_STORAGE', `${this.options.file}: pickle, byte ${this.opcodeAt}: ${message}`);
    });
  }
}

/** Bytes, roughly. */
function costOf(value: PickleValue): number {
  if (typeof value === 'string') return cost.text + 2 * value.length;
  if (value === null || typeof value !== 'object') return cost.value;
  if (value instanceof Map || value instanceof Set) return cost.container;
  if (ArrayBuffer.isView(value)) return cost.bytes;
  if (Array.isArray(value)) return cost.list + 8 * value.length;
  return value instanceof PickleTuple ? cost.list + 8 * value.items.length : cost.value;
}
