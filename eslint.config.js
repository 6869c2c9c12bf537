const tseslint = require('typescript-eslint');

/** Folders of lib/ from the street to the cellar, as docs/architecture.md has them, with those that each may not use. */
const above = {
  train: ['cli'],
  inference: ['cli', 'train'],
  data: ['cli', 'train', 'inference'],
  models: ['cli', 'train', 'inference', 'data'],
  nn: ['cli', 'train', 'inference', 'data', 'models', 'checkpoints', 'tokenizers'],
  checkpoints: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'ops'],
  tokenizers: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'ops'],
  ops: ['cli', 'train', 'inference', 'data', 'models', 'nn', 'checkpoints', 'tokenizers'],
};

/** Floors that reach the addon through operators and tensors only. */
const withoutNative = ['cli', 'train', 'inference', 'data', 'models', 'checkpoints', 'tokenizers'];

/** Imports of what lib/index.ts gathers would let any floor reach all others. */
const everything = {
  regex: '^\\.\\.(/index|/)?$',
  message: 'Name the file: lib/index.ts holds all floors.',
};

const modules = [
  {
    selector: "CallExpression[callee.name='createRequire'], MemberExpression[property.name='dlopen']",
    message: 'lib/native.ts alone loads a .node file.',
  },
  { selector: 'ImportExpression', message: 'Imports stand at the head of a file, where the floors are checked.' },
];

/** Node 20: `{ ...a, b }` takes 2 to 25 us, a new hidden class each time; `{ b, ...a }` 0.1. An operator's whole call takes 10. */
const spreadFirst = {
  selector: 'ObjectExpression[properties.length>1] > SpreadElement:first-child',
  message: 'On the way of every call: let the spread stand behind the properties, or use Object.assign.',
};

function syntax(restrictions) {
  return { 'no-restricted-syntax': ['error', ...restrictions] };
}

function floor(folder) {
  const names = above[folder] ?? [];
  const patterns = [everything];
  if (names.length > 0) {
    patterns.push({ regex: `^\\.\\./(${names.join('|')})/`, message: 'This floor may not use those above it.' });
  }
  if (withoutNative.includes(folder)) {
    patterns.push({ regex: '^\\.\\./native(Operators.*)?$', message: 'Use operators and tensors, not the addon.' });
  }
  return { files: [`lib/${folder}/**/*.ts`], rules: { 'no-restricted-imports': ['error', { patterns }] } };
}

module.exports = tseslint.config(
  { ignores: ['node_modules/**', 'build*/**', 'dist/**', 'runs/**', '.cache/**', 'coverage/**'] },
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
  ...['cli', ...Object.keys(above)].map(floor),
  {
    files: ['lib/*.ts'],
    // The package's face, and the tape, which sums gradients with the operator `add`.
    ignores: ['lib/index.ts', 'lib/autograd.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: '^\\./(index$|(?!nativeOperators/)[a-z]+/)',
              message: 'Tensors know nothing of what is built on them.',
            },
          ],
        },
      ],
    },
  },
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
  // The addon's loader, and the hub's, whose client is an optional package.
  { files: ['lib/**/*.ts'], ignores: ['lib/native.ts', 'lib/checkpoints/hub.ts'], rules: syntax(modules) },
  { files: ['lib/{ops,nn}/**/*.ts'], rules: syntax([...modules, spreadFirst]) },
);
