// Usage: node unload.cjs <addon>. Only a worker loads the addon; prints whether the process still has it in memory when that has ended.
'use strict';
const { readFileSync } = require('node:fs');
const { Worker } = require('node:worker_threads');
const [addonPath] = process.argv.slice(2);

const body = `
  const addon = require(${JSON.stringify(addonPath)});
  const device = addon.openDevice('cpu', 0);
  addon.fill({ dtype: 'u8', count: 1 << 20, value: 1, out: addon.allocate(device, 1 << 20) });`;
new Worker(body, { eval: true }).on('exit', (code) => {
  console.log('worker', code, 'in memory:', readFileSync('/proc/self/maps', 'utf8').includes(addonPath));
});
