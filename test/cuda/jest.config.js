'use strict';
// Tests of operators and models on the CUDA kernels in the emulator, and those of what CUDA alone has:
// `npx jest --config test/cuda/jest.config.js [files]`.
const { plugin } = require('./emulator');

// The addon reads them from the environment of the process, which test workers inherit and sandboxes only copy.
process.env.XLFORMERS_CUDA_PLUGIN = plugin;
process.env.XLFORMERS_TEST_DEVICE = 'cuda';
// The emulator's memory is the host's: a library that computes on a GPU must not get to see it.
process.env.XLFORMERS_CUBLASLT = '';

module.exports = {
  ...require('../../jest.config.js'),
  rootDir: '../..',
  displayName: 'cuda, emulated',
  // Beside the operators' own tests, what only CUDA has, and models against their fixtures.
  testMatch: [
    '<rootDir>/test/ops/*.test.ts',
    '<rootDir>/test/cuda/*.ts',
    '<rootDir>/test/models/{fixtures,training,xlnetFixtures}.test.ts',
    '<rootDir>/test/inference/ring*.test.ts',
  ],
  testPathIgnorePatterns: ['/node_modules/'],
  globalSetup: '<rootDir>/test/cuda/buildEmulator.js',
  testTimeout: 900_000,
};
