// Usage: node reload.cjs <addon>. The addon is loaded several times into one thread, and into a context of its own; handles of one
// load are given to the functions of another. Prints what happened.
'use strict';
const vm = require('node:vm');
const [addonPath] = process.argv.slice(2);

function load() {
  delete require.cache[require.resolve(addonPath)];
  return require(addonPath);
}

async function roundTrip(addon, buffer, value) {
  addon.fill({ dtype: 'f32', count: 4, value, out: buffer });
  const target = new ArrayBuffer(16);
  addon.copyDownloaded(await addon.download(buffer, target), target, 0, 16);
  return new Float32Array(target)[3];
}

async function main() {
  const loads = [load(), load(), load()];
  console.log('the same functions:', loads[0].fill === loads[1].fill);
  const devices = loads.map((addon) => addon.openDevice('cpu', 0));
  const buffers = loads.map((addon, index) => addon.allocate(devices[index], 16));
  for (const [index, addon] of loads.entries()) {
    const results = [];
    for (const buffer of buffers) results.push(await roundTrip(addon, buffer, index + 1).catch((error) => error.code));
    console.log('load', index, 'with the buffers of each:', results.join(' '));
  }
  const context = vm.createContext({ load });
  const inside = vm.runInContext(
    `(() => {
      const addon = load();
      const device = addon.openDevice('cpu', 0);
      const buffer = addon.allocate(device, 16);
      addon.upload(buffer, Float32Array.of(1, 2, 3, 4));
      let code = null;
      try { addon.release({}); } catch (error) { code = error.code; }
      return { addon, buffer, code };
    })()`,
    context,
  );
  console.log('in a context:', inside.code, await roundTrip(inside.addon, inside.buffer, 8));
  buffers.forEach((buffer, index) => loads[index].release(buffer));
  console.log('live bytes:', devices.map((device, index) => loads[index].memory(device).liveBytes).join(' '));
}

main();
