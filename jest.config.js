module.exports = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // Those need the emulator or a GPU: test/cuda/jest.config.js.
  testPathIgnorePatterns: ['/node_modules/', '<rootDir>/test/cuda/'],
  // What scripts/gpu/check unpacks is a package of the same name.
  modulePathIgnorePatterns: ['<rootDir>/build-gpu/'],
  // Types are checked by `npm run typecheck`; here files are only translated.
  transform: { '^.+\\.ts$': ['ts-jest', { tsconfig: 'tsconfig.json', diagnostics: false }] },
  // What hangs ends; what is slow, on a slow machine that has other work as well, does not.
  testTimeout: 600_000,
  maxWorkers: 2,
};
