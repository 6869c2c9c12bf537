import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The package's version. The file lies one folder deeper once compiled. */
export const version: string = (() => {
  for (const up of ['..', '../..']) {
    try {
      const file = path.join(__dirname, up, 'package.json');
      return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
    } catch {
      continue;
    }
  }
  return 'unknown';
})();
