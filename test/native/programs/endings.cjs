// Usage: node endings.cjs <addon> <mode>. The main thread ends in the way that `mode` names, in the middle of calls, with work queued.
'use strict';
const [addonPath, mode] = process.argv.slice(2);
const addon = require(addonPath);

const device = addon.openDevice('cpu', 0);
const count = 1 << 20;
const buffer = addon.allocate(device, 4 * count);
const fill = (value) => addon.fill({ dtype: 'f32', count, value, out: buffer });
const busy = () => {
  for (let index = 0; index < 200; index += 1) fill(index);
};
/** Options whose getter does something in the middle of the call. */
const during = (action) => ({
  dtype: 'f32',
  count,
  get value() {
    action();
    return 1;
  },
  out: buffer,
});

const modes = {
  'exit in a callback': () => addon.fence(device).then(() => (busy(), process.exit(3))),
  'exit in a getter': () => addon.fill(during(() => (busy(), process.exit(3)))),
  'exit in an exit handler': () => {
    process.on('exit', () => {
      busy();
      addon.fence(device).catch(() => {});
      process.exit(3);
    });
  },
  'throw in a callback': () => {
    addon.fence(device).then(() => {
      busy();
      setImmediate(() => {
        throw new Error('planned');
      });
    });
  },
  'throw in a getter': () => {
    const planned = new Error('planned');
    try {
      addon.fill(
        during(() => {
          throw planned;
        }),
      );
    } catch (error) {
      if (error !== planned) throw error;
      busy();
      process.exitCode = 3;
    }
  },
  'unhandled rejection': () => {
    const ids = addon.allocate(device, 4);
    addon.upload(ids, Int32Array.of(9));
    const call = { dtype: 'f32', count: 1, tableRows: 1, columns: 1, firstId: 0, partial: false, accumulate: false };
    addon.embedding({ ...call, scale: 1, ids, table: addon.allocate(device, 4), out: addon.allocate(device, 4) });
    busy();
    addon.fence(device);
  },
  'leaked buffers': () => {
    for (let index = 0; index < 10_000; index += 1) addon.view(addon.allocate(device, 64), 0, 32);
    busy();
    process.exitCode = 3;
  },
  'a signal': () => {
    busy();
    process.kill(process.pid, 'SIGTERM');
    setInterval(() => {}, 1000);
  },
};

busy();
modes[mode]();
