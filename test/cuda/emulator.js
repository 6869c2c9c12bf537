'use strict';
// The CUDA backend with the emulator in the place of a GPU (native/test/cuda).
const path = require('node:path');

const root = path.join(__dirname, '..', '..');
exports.source = path.join(root, 'native', 'test');
exports.folder = path.join(root, 'build-emulator');
exports.plugin = path.join(exports.folder, 'xlformers_cuda.so');
