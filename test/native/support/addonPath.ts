import path from 'node:path';

/** The addon that the tests run, for programs that load it themselves. */
export const addonPath =
  process.env.XLFORMERS_BINDING ?? path.join(__dirname, '..', '..', '..', 'build', 'Release', 'xlformers.node');
