import { CharTrie } from '../../lib/tokenizers/charTrie';

/** Steps through tries while `run` runs: what the time to tokenize is made of. */
export function countSteps(run: () => void): number {
  const original = CharTrie.prototype.step;
  let count = 0;
  CharTrie.prototype.step = function (node, unit) {
    count += 1;
    return original.call(this, node, unit);
  };
  try {
    run();
  } finally {
    CharTrie.prototype.step = original;
  }
  return count;
}
