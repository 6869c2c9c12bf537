// Usage: node environments.cjs <addon> <mode>. Several JavaScript threads use the addon at once and leave in the way that `mode` names,
// with work queued and promises outstanding. The test looks at the exit code.
'use strict';
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');

const [addonPath, mode] = isMainThread ? process.argv.slice(2) : [workerData.addonPath, workerData.mode];
const addon = require(addonPath);

const size = 256;
const elements = size * size;

/** Queues `count` matrix products on a new device; returns what keeps it busy. */
function queueWork(count) {
  const device = addon.openDevice('cpu', 0);
  const [a, b, c] = [0, 1, 2].map(() => addon.allocate(device, 4 * elements));
  for (const out of [a, b]) addon.fill({ dtype: 'f32', count: elements, value: 1, out });
  const product = { dtype: 'f32', cDtype: 'f32', rows: size, columns: size, inner: size, activation: 'none', residualStride: 0 };
  const flags = { transposeA: false, transposeB: false, packedB: false, accumulate: false };
  const noDropout = { dropout: 0, seed: 0, offset: 0 };
  const operands = { a, aStride: size, b, bStride: size, c, cStride: size };
  for (let index = 0; index < count; index += 1) addon.matrixProduct({ ...product, ...flags, ...noDropout, ...operands });
  return { device, c };
}

async function check() {
  for (let round = 0; round < 5; round += 1) {
    const { c } = queueWork(5);
    const target = new ArrayBuffer(4 * elements);
    const staging = await addon.download(c, target);
    addon.copyDownloaded(staging, target, 0, 4 * elements);
    if (new Float32Array(target).some((value) => value !== size)) throw new Error('wrong result');
  }
}

function leave() {
  const { c } = queueWork(400);
  addon.download(c, new ArrayBuffer(4 * elements)).catch(() => {});
  return c;
}

async function worker() {
  await check();
  parentPort.postMessage('checked');
  switch (mode) {
    case 'finish': // pending promises keep a thread alive; nothing else does
      await addon.fence(queueWork(3).device);
      break;
    case 'exit':
      leave();
      process.exit(0);
      break;
    case 'throw':
      leave();
      throw new Error('planned');
    case 'terminate': // the main thread ends this loop while it makes calls
      for (let round = 0; ; round += 1) {
        // Not without end: each device has a thread, and a slow machine lets this loop run for long.
        if (round < 50) addon.fence(queueWork(20).device).catch(() => {});
        parentPort.postMessage('busy');
        try {
          addon.fill({ dtype: 'f32', count: -1 });
        } catch {
          // expected
        }
      }
    default: // main-exit: still busy when the main thread leaves
      leave();
      setInterval(() => {}, 1000);
  }
}

async function main() {
  const workers = Array.from({ length: 4 }, () => new Worker(__filename, { workerData: { addonPath, mode } }));
  const ended = workers.map(
    (each) =>
      new Promise((resolve) => {
        each.on('error', (error) => {
          if (error.message !== 'planned') throw error;
        });
        each.on('exit', resolve);
      }),
  );
  const checked = Promise.all(workers.map((each) => new Promise((resolve) => each.once('message', resolve))));
  await check();
  await checked;
  if (mode === 'main-exit') {
    leave();
    process.exit(7);
  }
  if (mode === 'terminate') {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await Promise.all(workers.map((each) => each.terminate()));
  }
  await Promise.all(ended);
  await check();
  leave(); // the promise keeps the process alive until it is settled; then it ends by itself
}

if (isMainThread) main();
else worker();
