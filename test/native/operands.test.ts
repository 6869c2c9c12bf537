import { native } from '../../lib/native';
import { operatorCalls } from './support/operatorCalls';
import { call, codeOf, type OperatorName, type Options, Workbench } from './support/workbench';

const bench = new Workbench();
afterAll(() => bench.releaseAll());

function codeWith(name: OperatorName, change: Options): string | null {
  return codeOf(() => call(name, { ...operatorCalls[name](bench), ...change }));
}

describe('matrices', () => {
  test.each([
    ['a', { aStride: 4 }],
    ['b', { bStride: 4 }],
    ['c', { cStride: 3 }],
    ['residual', { residualStride: 3 }],
    ['b seen the other way round', { transposeB: false, bStride: 3 }],
  ])('rows of %s must not overlap', (_, change) => expect(codeWith('matrixProduct', change)).toBe('ERR_ARG_SHAPE'));

  test.each([
    ['a', { aStride: 6 }],
    ['b', { bStride: 6 }],
    ['c', { cStride: 5 }],
    ['a transposed', { transposeA: true }],
    ['bias', { columns: 5 }],
  ])('%s must fit its buffer', (_, change) => expect(codeWith('matrixProduct', change)).toBe('ERR_ARG_SHAPE'));

  test('products of nothing are nothing', () => {
    expect(codeWith('matrixProduct', { rows: 0 })).toBeNull();
    expect(codeWith('matrixProduct', { rows: 2 ** 52, columns: 0, inner: 0, aStride: 0, cStride: 0 })).toBeNull();
  });

  test('only plain products of 16 bits are stored in float32', async () => {
    const short = { dtype: 'bf16', a: bench.bytes(30), b: bench.bytes(40) };
    const plain = { activation: 'none', dropout: 0, bias: null, residual: null, preActivation: null };
    expect(codeWith('matrixProduct', { ...short, ...plain })).toBeNull();
    // The CPU does not compute in 16 bits.
    await expect(native.fence(bench.device)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    for (const more of [{ activation: 'relu' }, { dropout: 0.5 }, { bias: bench.bytes(8) }, { residual: bench.bytes(24) }]) {
      expect(codeWith('matrixProduct', { ...short, ...plain, ...more })).toBe('ERR_ARG_TYPE');
    }
    expect(codeWith('matrixProduct', { ...short, ...plain, c: bench.bytes(24) })).toBe('ERR_ARG_SHAPE');
    for (const cDtype of ['f64', 'bf16']) {
      expect(codeWith('matrixProduct', { ...plain, cDtype, c: bench.bytes(96) })).toBe('ERR_ARG_TYPE');
    }
    expect(codeWith('matrixProduct', { ...short, ...plain, cDtype: 'f16' })).toBe('ERR_ARG_TYPE');
  });

  test('a packed operand has the packed size', () => {
    const { packed } = operatorCalls.packMatrix(bench) as { packed: unknown };
    const product = {
      rows: 1,
      columns: 64,
      inner: 32,
      aStride: 32,
      cStride: 64,
      packedB: true,
      a: bench.floats(32),
      bias: null,
      residual: null,
      preActivation: null,
      c: bench.floats(64),
    };
    expect(codeWith('matrixProduct', { ...product, b: packed })).toBeNull();
    expect(codeWith('matrixProduct', { ...product, b: bench.floats(64) })).toBe('ERR_ARG_SHAPE');
  });

  test('packedMatrixElements', () => {
    expect(native.packedMatrixElements(bench.device, 'f32', 64, 32)).toBeGreaterThanOrEqual(64 * 32);
    expect(codeOf(() => native.packedMatrixElements(bench.device, 'f32', 2 ** 40, 1))).toBe('ERR_ARG_RANGE');
    expect(codeOf(() => native.packedMatrixElements(bench.device, 'float' as 'f32', 1, 1))).toBe('ERR_ARG_RANGE');
  });
});

describe('strided copies', () => {
  test.each([
    { inOuterStride: 13 },
    { inRowStride: 5 },
    { outOuterStride: 16 },
    { outRowStride: 7 },
    { columns: 6 },
    { outer: 3 },
    { inOuterStride: 2 ** 52, inRowStride: 2 ** 52 },
  ])('%p reaches beyond a buffer', (change) => expect(codeWith('copyStrided', change)).toBe('ERR_ARG_SHAPE'));

  test('elements of the output must not coincide', () => {
    expect(codeWith('copyStrided', { outRowStride: 0 })).toBe('ERR_ARG_SHAPE');
    expect(codeWith('copyStrided', { outOuterStride: 10, outRowStride: 4 })).toBe('ERR_ARG_SHAPE');
    expect(codeWith('copyStrided', { outer: 2 ** 50, outOuterStride: 0, inOuterStride: 0 })).toBe('ERR_ARG_SHAPE');
  });

  test('rows may lie between rows, and input rows may repeat', () => {
    expect(codeWith('copyStrided', { outOuterStride: 4, outRowStride: 8, out: bench.floats(24) })).toBeNull();
    expect(codeWith('copyStrided', { inOuterStride: 0, inRowStride: 0 })).toBeNull();
  });
});

describe('relative attention', () => {
  // M = 2, T = 4, positions for the distances 0..5.
  test.each([
    ['the nearest key has no position', { bandUpper: 1 }, 'ERR_ARG_SHAPE'],
    ['the farthest key has no position', { positionRows: 5 }, 'ERR_ARG_SHAPE'],
    ['positions start too far', { firstDistance: 1 }, 'ERR_ARG_SHAPE'],
    ['the first query sees nothing', { bandUpper: -3 }, 'ERR_ARG_RANGE'],
    ['the last query sees nothing', { bandLower: 3 }, 'ERR_ARG_RANGE'],
    ['limits crossed', { bandLower: 2, bandUpper: -1 }, 'ERR_ARG_RANGE'],
    ['a segment beyond the keys', { bandLower: 4, bandUpper: 9, bandSegment: 2 }, 'ERR_ARG_RANGE'],
    ['head size', { headDim: 257 }, 'ERR_ARG_RANGE'],
    ['no head', { heads: 0 }, 'ERR_ARG_RANGE'],
    ['query rows', { queryRowStride: 7 }, 'ERR_ARG_SHAPE'],
    ['query rows that overlap', { queryRowStride: 5 }, 'ERR_ARG_SHAPE'],
    ['query batches', { queryBatchStride: 25 }, 'ERR_ARG_SHAPE'],
    ['position rows that overlap', { positionRowStride: 5 }, 'ERR_ARG_SHAPE'],
    ['batch', { batch: 3 }, 'ERR_ARG_SHAPE'],
    ['scale', { scale: NaN }, 'ERR_ARG_RANGE'],
    ['memory', { memory: null }, 'ERR_ARG_TYPE'],
    ['memory', { memory: { length: 1, rowStride: 6, batchStride: 6 } }, 'ERR_ARG_HANDLE'],
  ])('refuses: %s', (_, change, code) => expect(codeWith('relativeAttention', change)).toBe(code));

  test('memory alone may be a ring', () => {
    const { memory, current } = operatorCalls.relativeAttention(bench) as { memory: Options; current: Options };
    const ringHead = bench.ids([0]);
    expect(codeWith('relativeAttention', { memory: { ...memory, ringHead } })).toBeNull();
    expect(codeWith('relativeAttention', { current: { ...current, ringHead } })).toBe('ERR_ARG_SHAPE');
    expect(codeWith('relativeAttention', { memory: { ...memory, ringHead: bench.bytes(3) } })).toBe('ERR_ARG_SHAPE');
  });

  test.each([
    ['a window makes fewer positions necessary', { bandLower: 1, positionRows: 2 }],
    ['segments: the end of a full one is farthest', { bandLower: 1, bandSegment: 3, positionRows: 4 }],
    ['segments longer than the queries', { bandLower: 0, bandSegment: 100, positionRows: 6 }],
    ['both directions', { bandUpper: 4, firstDistance: -3, positionRows: 9, position: 54 }],
    ['no query', { queryLength: 0 }],
  ])('accepts: %s', (_, { position, ...change }: Options) => {
    const rows = typeof position === 'number' ? { position: bench.floats(position) } : {};
    expect(codeWith('relativeAttention', { ...change, ...rows })).toBeNull();
  });

  test('one position less than a segmented band needs', () => {
    expect(codeWith('relativeAttention', { bandLower: 1, bandSegment: 3, positionRows: 3 })).toBe('ERR_ARG_SHAPE');
  });

  test('gradients of absent operands are absent, and those of present ones required', () => {
    const { forward } = operatorCalls.relativeAttentionGradient(bench) as { forward: Options };
    const ring = { ...forward, memory: { ...(forward.memory as Options), ringHead: bench.ids([0]) } };
    expect(codeWith('relativeAttentionGradient', { forward: ring })).toBe('ERR_ARG_SHAPE');
    expect(codeWith('relativeAttentionGradient', { forward: { ...forward, contentBias: null } })).toBe('ERR_ARG_SHAPE');
    expect(codeWith('relativeAttentionGradient', { contentBiasGradient: null })).toBe('ERR_ARG_HANDLE');
    expect(codeWith('relativeAttentionGradient', { memoryKeyGradient: null })).toBe('ERR_ARG_HANDLE');
  });
});

describe('adaptive softmax', () => {
  const withCluster = (index: number, change: Options) => {
    const { clusters } = operatorCalls.adaptiveSoftmaxLoss(bench) as { clusters: Options[] };
    return { clusters: clusters.map((cluster, each) => (each === index ? { ...cluster, ...change } : cluster)) };
  };

  test.each([
    ['a gap between clusters', 1, { firstId: 4 }, 'ERR_ARG_RANGE'],
    ['an empty cluster', 1, { size: 0 }, 'ERR_ARG_RANGE'],
    ['more ids than int32 has', 2, { size: 2 ** 31 - 1 }, 'ERR_ARG_RANGE'],
    ['a width without projection', 1, { projection: null }, 'ERR_ARG_SHAPE'],
    ['weights too small', 1, { size: 3 }, 'ERR_ARG_SHAPE'],
    ['no weights', 0, { weight: null }, 'ERR_ARG_HANDLE'],
  ])('refuses %s', (_, index, change, code) => {
    expect(codeWith('adaptiveSoftmaxLoss', withCluster(index, change))).toBe(code);
  });

  test('needs cluster weights exactly when there are tails', () => {
    expect(codeWith('adaptiveSoftmaxLoss', { clusterWeight: null })).toBe('ERR_ARG_HANDLE');
    const { clusters } = operatorCalls.adaptiveSoftmaxLoss(bench) as { clusters: Options[] };
    expect(
      codeWith('adaptiveSoftmaxLoss', {
        clusters: clusters.slice(0, 1),
        clusterWeight: null,
        clusterBias: null,
        labels: bench.ids([0, 1, 2, -100, 2]),
      }),
    ).toBeNull();
  });
});

describe('outputs share no memory with other operands', () => {
  test('an output over ids could lead a kernel astray after it checked them', () => {
    const ids = bench.ids([0, 1, 2]);
    expect(codeWith('embedding', { ids, columns: 1, out: ids })).toBe('ERR_ARG_DATA');
  });

  test('partly overlapping views', () => {
    const block = bench.floats(8);
    const x = native.view(block, 0, 20);
    const out = native.view(block, 12, 20);
    expect(codeWith('add', { x, out })).toBe('ERR_ARG_DATA');
    expect(codeWith('activation', { count: 5, x, out })).toBe('ERR_ARG_DATA');
    native.release(x);
    native.release(out);
  });

  test('where the contract allows it, an output may be an input', () => {
    const x = bench.floats(9);
    expect(codeWith('add', { x, y: x, out: x })).toBeNull();
    expect(codeWith('activation', { x, out: x })).toBeNull();
    expect(codeWith('activationGradient', { outGradient: x, xGradient: x })).toBeNull();
    expect(codeWith('activationGradient', { x, xGradient: x })).toBe('ERR_ARG_DATA');
  });

  test('two outputs in one place', () => {
    const mean = bench.floats(3);
    expect(codeWith('layerNorm', { mean, rstd: mean })).toBe('ERR_ARG_DATA');
  });

  test('gradients of one packed matrix interleave', () => {
    const packed = bench.floats(2 * 4 * 3 * 6);
    const column = (index: number) => native.view(packed, 24 * index, 4 * (2 * 4 * 3 * 6 - 6 * index));
    const { forward } = operatorCalls.relativeAttentionGradient(bench) as { forward: Options };
    const strides = { rowStride: 18, batchStride: 72 };
    const views = [column(0), column(1), column(2)];
    const operands = bench.floats(2 * 4 * 3 * 6);
    const options = {
      forward: {
        ...forward,
        query: operands,
        queryRowStride: 18,
        queryBatchStride: 72,
        current: { key: operands, value: operands, length: 4, ...strides },
      },
      queryGradient: views[0],
      currentKeyGradient: views[1],
      currentValueGradient: views[2],
    };
    expect(codeWith('relativeAttentionGradient', options)).toBeNull();
    for (const view of views) native.release(view);
  });
});

test('data-dependent errors reject the next read, naming the operator', async () => {
  const out = bench.floats(12);
  call('embedding', { ...operatorCalls.embedding(bench), ids: bench.ids([0, 5, 1]), out });
  const read = native.read(out, new ArrayBuffer(48));
  await expect(read).rejects.toMatchObject({ name: 'XlformersError', code: 'ERR_TOKEN_ID' });
  await expect(read).rejects.toThrow(/embedding.*5/);
  await expect(native.fence(bench.device)).resolves.toBeUndefined();
});
