import { type FloatDType, isShortFloat } from './dtype';
import { defaultDevice } from './env';
import { XlformersError, argumentError, describe } from './errors';
import { native, type NativeDevice, type NativeMemory } from './native';

/** What `devices()` says of one device. */
export interface DeviceDescription {
  /** The name that every `device` option takes: `'cpu'`, `'cuda:0'`. */
  name: string;
  /** The product, for people. */
  product: string;
  /** Instruction set and threads, or compute capability. */
  detail: string;
  /** Physical memory in bytes. */
  memoryBytes: number;
}

/** A backend and why it has no device, when it has none. */
export interface BackendDescription {
  backend: string;
  devices: DeviceDescription[];
  /** Set when `devices` is empty. */
  reason: string | null;
}

/**
 * One device with its queue: operators enqueued on it run in order, off the JavaScript thread.
 * Each JavaScript thread (main or worker) has its own queue.
 */
export class Device {
  /** @internal */
  readonly handle: NativeDevice;

  private constructor(
    readonly type: 'cpu' | 'cuda',
    readonly index: number,
  ) {
    this.handle = native.openDevice(type, index);
  }

  private static readonly opened = new Map<string, Device>();

  /** @internal The device of that backend and index, opened once. */
  static open(type: 'cpu' | 'cuda', index: number): Device {
    const key = `${type}:${index}`;
    let device = Device.opened.get(key);
    if (device === undefined) {
      device = new Device(type, index);
      Device.opened.set(key, device);
    }
    return device;
  }

  /** `'cpu'` or `'cuda:0'`. */
  get name(): string {
    return this.type === 'cpu' ? 'cpu' : `${this.type}:${this.index}`;
  }

  /** Whether operators compute in that type here; every device stores and casts all of them. */
  computesIn(dtype: FloatDType): boolean {
    return this.type === 'cuda' || !isShortFloat(dtype);
  }

  /** Bytes that tensors hold, that the allocator keeps for reuse, and the peaks since the last `resetPeak()`. */
  memory(): NativeMemory {
    return native.memory(this.handle);
  }

  /** Makes the present use the new peak. */
  resetPeak(): void {
    native.resetPeak(this.handle);
  }

  /** Resolves when everything enqueued so far has run; rejects with the first error among it. */
  synchronize(): Promise<void> {
    return native.fence(this.handle);
  }

  toString(): string {
    return this.name;
  }
}

/** `'auto'` (CUDA when there is one, else CPU), `'cpu'`, `'cuda'` or `'cuda:<index>'`. */
export type DeviceLike = Device | string;

/** All backends with their devices, and the reason where there is none. */
export function devices(): BackendDescription[] {
  return native.backends().map(({ name, devices: list, reason }) => ({
    backend: name,
    devices: list.map((device) => ({
      name: name === 'cpu' ? 'cpu' : `${name}:${device.index}`,
      product: device.name,
      detail: device.detail,
      memoryBytes: device.memoryBytes,
    })),
    reason: list.length > 0 ? null : reason,
  }));
}

/**
 * The device of that name. Only `'auto'` falls back; a named device that cannot be had throws with the reason.
 * @throws XlformersError ERR_DEVICE, ERR_ARG_TYPE
 */
export function resolveDevice(device: DeviceLike = defaultDevice()): Device {
  if (device instanceof Device) return device;
  if (typeof device !== 'string') throw argumentError('ERR_ARG_TYPE', 'device', device, 'a name or a Device');
  if (device === 'cpu') return Device.open('cpu', 0);
  const backends = native.backends();
  const cuda = backends.find((backend) => backend.name === 'cuda');
  const cudaCount = cuda?.devices.length ?? 0;
  if (device === 'auto') return cudaCount > 0 ? Device.open('cuda', 0) : Device.open('cpu', 0);
  const match = /^cuda(?::(\d{1,3}))?$/.exec(device);
  if (match === null) {
    throw new XlformersError(
      'ERR_DEVICE',
      `device: got ${describe(device)}, expected 'auto', 'cpu', 'cuda' or 'cuda:<index>'`,
    );
  }
  const index = Number(match[1] ?? 0);
  if (index >= cudaCount) {
    const present = cudaCount === 1 ? 'there is cuda:0 only' : `there are cuda:0 to cuda:${cudaCount - 1}`;
    const why = cudaCount === 0 ? (cuda?.reason ?? 'the CUDA plugin is not installed') : present;
    throw new XlformersError('ERR_DEVICE', `device: '${device}' cannot be had: ${why}`);
  }
  return Device.open('cuda', index);
}
