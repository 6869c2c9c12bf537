/** permutationAttention among the operators' cases, and what rounding to 16 bits may do to those of its gradients whose terms cancel. */
import { Generator, permutationAttention, concatenate, scope, type Tensor } from '../../lib';
import { ids, tensor } from './operators';
import type { Evaluated, OperatorCase } from './operatorCases';
import type { TestRandom } from './random';

const [batch, length, memory, queries, heads] = [2, 29, 7, 5, 2] as const;
const keys = length + memory;

export function permutationCase(random: TestRandom, headDim: number): OperatorCase {
  const rows = (count: number) => [batch, count, heads, headDim];
  const ranks = Int32Array.from([...permuted(random, length), ...permuted(random, length)]);
  const segments = random.integers(batch * length, 0, 1);
  const positions = random.integers(batch * queries, 0, length - 1);
  const bias = [heads, headDim];
  const shapes = [
    ...[rows(length), rows(queries), rows(length), rows(length), rows(memory), rows(memory)],
    ...[[2 * keys + 1, heads, headDim], bias, bias, bias, [2, heads, headDim]],
  ];
  const attend = (inputs: readonly Tensor[], dropping: { dropout?: number; generator?: Generator }) => {
    const [content, query, key, value, memoryKey, memoryValue, position] = inputs as [Tensor, ...Tensor[]];
    const [contentBias, positionBias, segmentBias, segmentEmbedding] = inputs.slice(7);
    return permutationAttention({
      ...{ content, query, key: key!, value: value!, memoryKey, memoryValue, position: position! },
      ...{ contentBias, positionBias, segmentBias, segmentEmbedding, segments: ids(segments, [batch, length]) },
      ...{ queryPositions: ids(positions, [batch, queries]), queryRanks: ids(ranks, [batch, length]) },
      ...{ keyRanks: ids(ranks, [batch, length]), reversedFrom: 1, firstDistance: -keys },
      band: { upper: Infinity },
      ...dropping,
    });
  };
  const dropped = () => ({ dropout: 0.25, generator: new Generator(5) });
  return {
    name: `permutationAttention, head size ${headDim}`,
    shapes,
    terms: 3 * headDim + keys,
    run: (inputs) => {
      const result = attend(inputs, dropped());
      // One output: backward runs once over the node of both streams.
      return [concatenate([result.content!, result.query!], 1)];
    },
    gradientRounding,
  };

  /**
   * Gradients of the biases and of the segment embedding are sums of dS x over rows and keys, dS = scale P (dP - D), where x is the key, r,
   * e or q + s. They cancel, as dS sums to nothing over the keys of a row, and errors do not: dS is rounded, and so is O, of which
   * D = dO . O is made, whose error moves all keys of a row by -P. Roundings are independent, uniform and by at most `roundoff` of a number,
   * so that more than four times the root of their sum of squares has a probability below 2 exp(-24), as a sub-Gaussian sum. The result is
   * rounded once more.
   */
  async function gradientRounding({ inputs, outputs, gradients, weights }: Evaluated, roundoff: number) {
    const [content, query, key, value, memoryKey, memoryValue, position, , , segmentBias, embedding] =
      inputs as Float64Array[];
    const [plain, kept] = await Promise.all([{}, dropped()].map(probabilitiesOf));
    const scale = headDim ** -0.5;
    const columns = Array.from({ length: headDim }, (_, c) => c);
    const squares = gradients.slice(7).map((gradient) => new Float64Array(gradient!.length));

    for (let row = 0; row < batch * heads * (length + queries); row += 1) {
      const n = row % (length + queries);
      const h = Math.floor(row / (length + queries)) % heads;
      const b = Math.floor(row / (length + queries) / heads);
      const inQuery = n >= length;
      const place = inQuery ? positions[b * queries + n - length]! : n;
      /** Element (b, row, h, c) of an array with `count` rows. */
      const at = (count: number, index: number, c: number) => ((b * count + index) * heads + h) * headDim + c;
      const ofKey = (current: Float64Array, before: Float64Array, j: number, c: number) =>
        j < memory ? before[at(memory, j, c)]! : current[at(length, j - memory, c)]!;
      const gradientOf = (c: number) => weights[0]![at(length + queries, n, c)]!;
      const products = columns.map((c) => gradientOf(c) * outputs[0]![at(length + queries, n, c)]!);
      const delta = products.reduce((sum, each) => sum + each, 0);
      const deltaSquares = products.reduce((sum, each) => sum + each ** 2, 0);
      const moved = squares.map((each) => new Float64Array(each.length));

      for (let j = 0; j < keys; j += 1) {
        const pair = inQuery
          ? ((b * heads + h) * queries + n - length) * keys + j
          : ((b * heads + h) * length + n) * keys + j;
        const p = plain![inQuery ? 1 : 0]![pair]!;
        const afterDropout = kept![inQuery ? 1 : 0]![pair]!;
        const valueProduct = columns.reduce((sum, c) => sum + gradientOf(c) * ofKey(value!, memoryValue!, j, c), 0);
        const scoreGradient = scale * (afterDropout * valueProduct - p * delta);
        const distance = (memory + place - j) * (b >= 1 ? -1 : 1);
        const segment = j < memory ? 0 : segments[b * length + j - memory]!;
        const other = segment === segments[b * length + place] ? 0 : 1;
        for (const c of columns) {
          const column = h * headDim + c;
          const q = inQuery ? query![at(queries, n - length, c)]! : content![at(length, n, c)]!;
          const factors = [
            ofKey(key!, memoryKey!, j, c),
            position![(distance + keys) * heads * headDim + column]!,
            embedding![other * heads * headDim + column]!,
            q + segmentBias![column]!,
          ];
          factors.forEach((x, index) => {
            const element = index === 3 ? other * heads * headDim + column : column;
            squares[index]![element]! += (scoreGradient * x) ** 2;
            moved[index]![element]! += scale * p * x;
          });
        }
      }
      moved.forEach((each, index) => {
        for (let i = 0; i < each.length; i += 1) squares[index]![i]! += deltaSquares * each[i]! ** 2;
      });
    }
    return gradients.map((gradient, index) =>
      index < 7 ? null : squares[index - 7]!.map((sum, i) => roundoff * (4 * Math.sqrt(sum) + Math.abs(gradient![i]!))),
    );

    /** Of both streams, [B, H, rows, keys]. */
    async function probabilitiesOf(dropping: { dropout?: number; generator?: Generator }) {
      const made = scope(() => {
        const { content, query } = attend(
          inputs.map((values, index) => tensor(values, shapes[index]!)),
          dropping,
        ).probabilities();
        return [content!, query!];
      });
      const data = await Promise.all(made.map((each) => each.data()));
      made.forEach((each) => each.dispose());
      return data;
    }
  }
}

function permuted(random: TestRandom, count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  for (let index = count - 1; index > 0; index -= 1) {
    const other = random.integer(0, index);
    [order[index], order[other]] = [order[other]!, order[index]!];
  }
  return order;
}
