/** What is given where an integer is due: none of it may pass, and none may be rounded to something that does. */
export const badIntegers: readonly unknown[] = [
  ...[NaN, Infinity, -Infinity, 0.5, -0.5, 2 ** 53, 1e300, -1e300, 5e-324],
  ...['5', '', 5n, null, {}, [], [5], Symbol('5'), true, () => 5, { valueOf: () => 5 }, new Number(5), new Date(5)],
];
