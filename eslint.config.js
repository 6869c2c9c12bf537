const tseslint = require('typescript-eslint');

/** Folders of lib/ from the street to the cellar, as docs/architecture.md has them: a floor may use those named with it. */
const floors = {
  cli: null,
  train: ['cli'],
  inference: ['cli'],
  data: ['cli', 'train', 'inference'],
  models: ['cli', 'train', 'inference', 'data'],
  nn: ['cli', 'train', 'inference', 'data', 'models', 'checkpoints', 'tokenizers'],
  checkpoints: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'ops'],
  tokenizers: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'ops'],
  ops: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'checkpoints', 'tokenizers'],
};

module.exports = tseslint.config(
  { ignores: ['node_modules/**', 'build*/**', 'dist/**', 'runs/**', '.cache/**'] },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { varsIgnorePattern: '^_', argsIgnorePattern: '^_' }],
      '@typescript-eslint/no-non-null-assertion': 'off',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
  { files: ['**/*.js', '**/*.cjs'], rules: { '@typescript-eslint/no-require-imports': 'off' } },
  ...Object.entries(floors)
    .filter(([, above]) => above !== null)
    .map(([folder, above]) => ({
      files: [`lib/${folder}/**/*.ts`],
      rules: {
        'no-restricted-imports': [
          'error',
          {
            patterns: [
              { group: above.map((name) => `../${name}/*`), message: 'This floor may not use those above it.' },
            ],
          },
        ],
      },
    })),
  {
    files: ['lib/**/*.ts'],
    ignores: ['lib/env.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'lib/env.ts alone reads it.' },
      ],
    },
  },
);
