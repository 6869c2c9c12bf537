'use strict';
const { spawnSync } = require('node:child_process');
const os = require('node:os');
const { folder, source } = require('./emulator');

function cmake(...args) {
  const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${stdout}${stderr}`);
}

/** Configures and builds what is out of date. */
module.exports = () => {
  cmake('-S', source, '-B', folder);
  cmake('--build', folder, '--target', 'xlformers_cuda', '--parallel', String(os.availableParallelism()));
};
