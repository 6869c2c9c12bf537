// Resolves a model as a user's program does: with the package found by `import`. Prints the folder, or the error.
const { resolveModel } = require('../../../lib/checkpoints/hub');

resolveModel(process.argv[2]).then(
  (folder) => process.stdout.write(JSON.stringify({ folder })),
  ({ code, message }) => process.stdout.write(JSON.stringify({ code, message })),
);
