import { XlformersError } from '../errors';
import { type Rules, applyRules, choiceRule, integerRule } from '../options';
import { DataRandom, type RandomSource } from './dataRandom';
import { factorizationOrder } from './permutationOrder';
import { type SentenceCorpus, TokenStream, splitSegments } from './sentences';
import { type SpanMode, sampleSpans, spanModes } from './spanMasking';

/** The pretraining data of XLNet, under the names of the original's flags. */
export interface XLNetSampleConfig {
  /** Rows of a batch; with biData the second half of each micro-batch reads backwards. */
  batchSize: number;
  /** Micro-batches into which the rows are split, each with both directions in it (`num_core_per_host`). */
  accumulation: number;
  /** Tokens of a sample. */
  seqLen: number;
  /** Tokens from one sample to the next; their hidden states are the memory of the next. */
  reuseLen: number;
  /** Positions permuted together; divides reuseLen and seqLen - reuseLen. */
  permSize: number;
  /** Tokens predicted per sample: half of them, rounded up, in the first reuseLen tokens. */
  numPredict: number;
  /** About maskBeta of maskAlpha tokens are predicted where spans are drawn. */
  maskAlpha: number;
  maskBeta: number;
  /** Longest span. */
  maxGram: number;
  spanMode: SpanMode;
  /** Half of the rows read their text backwards. */
  biData: boolean;
  sepId: number;
  clsId: number;
  seed: number;
}

const id = (fallback: number) => integerRule(fallback, 0, 2 ** 31 - 1);

const rules: Rules<XLNetSampleConfig> = {
  batchSize: integerRule(8, 1, 65_536),
  accumulation: integerRule(1, 1, 65_536),
  seqLen: integerRule(512, 6, 1 << 20),
  reuseLen: integerRule(256, 1, 1 << 20),
  permSize: integerRule(256, 1, 1 << 20),
  numPredict: integerRule(85, 1, 1 << 20),
  maskAlpha: integerRule(6, 1, 1 << 20),
  maskBeta: integerRule(1, 1, 1 << 20),
  maxGram: integerRule(5, 1, 1024),
  spanMode: choiceRule('fixed', spanModes),
  biData: { fallback: false, accepts: (value) => typeof value === 'boolean', expected: 'true or false' },
  sepId: id(4),
  clsId: id(3),
  seed: integerRule(1, 0),
};

/** What a loss leaves out. */
const ignoredTarget = -100;

/** Inputs of `XLNetLMHeadModel.forward`, row-major. */
export interface XLNetBatch {
  /** [batch, length] */
  inputIds: Int32Array;
  /** [batch, length]: 0 for the reused part, A and its `<sep>`; 1 for B and its `<sep>`; 2 for `<cls>`. */
  segments: Int32Array;
  /** [batch, length] Both: the key at row c is hidden from queries at row p when keyRanks[c] >= queryRanks[p]. */
  queryRanks: Int32Array;
  keyRanks: Int32Array;
  /** [batch, numPredict]: ascending; -1 for padding, where a chosen token was `<sep>` or `<cls>`. */
  targetPositions: Int32Array;
  /** [batch, numPredict]: the tokens at those positions; -100 for padding. */
  targets: Int32Array;
  batch: number;
  length: number;
  numPredict: number;
  epoch: number;
  /** Of the batch in its epoch. At 0 the memory of the batch before does not belong to these rows. */
  index: number;
}

/** Where a stream of batches stands: the next one. */
export interface SamplePosition {
  epoch: number;
  index: number;
}

/** What one row needs of its batch. */
export interface XLNetSample {
  inputIds: Int32Array;
  segments: Int32Array;
  queryRanks: Int32Array;
  keyRanks: Int32Array;
  targetPositions: Int32Array;
  targets: Int32Array;
}

/** @throws XlformersError ERR_CONFIG naming the option */
export function resolveSampleConfig(given: Partial<XLNetSampleConfig>): XLNetSampleConfig {
  const config = applyRules<XLNetSampleConfig>('data', rules, given);
  const { batchSize, accumulation, seqLen, reuseLen, permSize, numPredict, maskAlpha, maskBeta, biData } = config;
  const refuse = (name: keyof XLNetSampleConfig, expected: string) => {
    throw new XlformersError('ERR_CONFIG', `data.${name}: got ${config[name]}, expected ${expected}`);
  };
  const rest = seqLen - reuseLen;
  // A and B have a token each, beside <sep>, <sep> and <cls>.
  if (rest < 5) refuse('reuseLen', `at most seqLen - 5 = ${seqLen - 5}`);
  if (reuseLen % permSize !== 0 || rest % permSize !== 0) {
    refuse('permSize', `a divisor of reuseLen ${reuseLen} and of seqLen - reuseLen ${rest}`);
  }
  const most = Math.min(2 * reuseLen, 2 * rest + 1);
  if (numPredict > most) refuse('numPredict', `at most ${most}: half of them come from each part of the sample`);
  if (maskBeta > maskAlpha) refuse('maskBeta', `at most maskAlpha ${maskAlpha}`);
  const parts = accumulation * (biData ? 2 : 1);
  if (batchSize % parts !== 0) {
    refuse('batchSize', `a multiple of ${parts}${biData ? ', of two directions in each micro-batch' : ''}`);
  }
  return config;
}

/**
 * The samples on which XLNet is pretrained (data_utils.py of the original): the corpus is cut into contiguous streams; a sample is
 * [reused tokens][A]<sep>[B]<sep><cls>, and the next one of a row begins reuseLen tokens further, so that the memory carries over.
 * Spans, segments and factorization orders are drawn anew in each epoch. Everything is a function of seed, epoch, index and row:
 * any batch can be had without those before it, and a position is all that resuming needs.
 */
export class XLNetSamples {
  readonly config: XLNetSampleConfig;
  /** One per row. */
  private readonly rows: RowStream[];
  private current: SamplePosition = { epoch: 0, index: 0 };

  /**
   * @param startPieces by token id, not 0 where a word begins (`startPieces` of spanMasking.ts)
   * @param name of the text, for errors
   * @throws XlformersError ERR_CONFIG, ERR_ARG_RANGE when the text is too short, ERR_TOKEN_ID
   */
  constructor(
    corpus: SentenceCorpus,
    private readonly startPieces: Uint8Array,
    config: Partial<XLNetSampleConfig> = {},
    name = 'data',
  ) {
    this.config = resolveSampleConfig(config);
    checkTokens(corpus.tokens, this.config, startPieces.length, name);
    this.rows = rowStreams(corpus, this.config, name);
  }

  get batchesPerEpoch(): number {
    const { seqLen, reuseLen } = this.config;
    return Math.floor(((this.rows[0] as RowStream).stream.length - seqLen) / reuseLen) + 1;
  }

  /** The batch at a place, or null after the last of the epoch. */
  at({ epoch, index }: SamplePosition): XLNetBatch | null {
    if (index >= this.batchesPerEpoch) return null;
    const { batchSize: batch, seqLen: length, reuseLen, numPredict, seed } = this.config;
    const result: XLNetBatch = {
      inputIds: new Int32Array(batch * length),
      segments: new Int32Array(batch * length),
      queryRanks: new Int32Array(batch * length),
      keyRanks: new Int32Array(batch * length),
      targetPositions: new Int32Array(batch * numPredict),
      targets: new Int32Array(batch * numPredict),
      ...{ batch, length, numPredict, epoch, index },
    };
    this.rows.forEach(({ stream, place }, row) => {
      const random = new DataRandom(seed, [epoch, index, place]);
      const sample = drawSample(stream, index * reuseLen, this.startPieces, this.config, random);
      for (const name of ['inputIds', 'segments', 'queryRanks', 'keyRanks'] as const) {
        result[name].set(sample[name], row * length);
      }
      for (const name of ['targetPositions', 'targets'] as const) result[name].set(sample[name], row * numPredict);
    });
    return result;
  }

  /** The next batch; after the last of an epoch comes the first of the next. */
  next(): XLNetBatch {
    if (this.current.index >= this.batchesPerEpoch) this.current = { epoch: this.current.epoch + 1, index: 0 };
    const batch = this.at(this.current) as XLNetBatch;
    this.current.index += 1;
    return batch;
  }

  /** Of the next batch. */
  state(): SamplePosition {
    return { ...this.current };
  }

  restore(position: SamplePosition): void {
    this.current = { ...position };
  }
}

/** One sample whose reused tokens begin at `begin` of the stream. */
export function drawSample(
  stream: TokenStream,
  begin: number,
  startPieces: Uint8Array,
  config: XLNetSampleConfig,
  random: RandomSource,
): XLNetSample {
  const { seqLen, reuseLen, permSize, numPredict, sepId, clsId } = config;
  const { aBegin, aEnd, bBegin, bEnd } = splitSegments(stream, begin + reuseLen, seqLen - reuseLen - 3, random);
  const inputIds = new Int32Array(seqLen);
  const segments = new Int32Array(seqLen);
  let length = 0;
  const add = (token: number, segment: number) => {
    inputIds[length] = token;
    segments[length] = segment;
    length += 1;
  };
  for (let position = begin; position < begin + reuseLen; position += 1) add(stream.token(position), 0);
  for (let position = aBegin; position < aEnd; position += 1) add(stream.token(position), 0);
  add(sepId, 0);
  for (let position = bBegin; position < bEnd; position += 1) add(stream.token(position), 1);
  add(sepId, 1);
  add(clsId, 2);

  const startsWord = Uint8Array.from(inputIds, (token) => startPieces[token] as number);
  const isMasked = new Uint8Array(seqLen);
  const goals = [Math.ceil(numPredict / 2), Math.floor(numPredict / 2)] as const;
  for (const [start, end, goal] of [
    [0, reuseLen, goals[0]],
    [reuseLen, seqLen, goals[1]],
  ] as const) {
    const { spanMode: mode, maskAlpha: alpha, maskBeta: beta, maxGram } = config;
    const options = { mode, goal, alpha, beta, maxGram, reversed: stream.reversed };
    isMasked.set(sampleSpans(startsWord.subarray(start, end), options, random), start);
  }
  const isFunctional = Uint8Array.from(inputIds, (token) => (token === sepId || token === clsId ? 1 : 0));
  const { queryRanks, keyRanks, isTarget } = factorizationOrder(
    { isMasked, isFunctional },
    { reuseLen, permSize },
    random,
  );
  const targetPositions = new Int32Array(numPredict).fill(-1);
  const targets = new Int32Array(numPredict).fill(ignoredTarget);
  let count = 0;
  for (let position = 0; position < seqLen; position += 1) {
    if (isTarget[position] === 0) continue;
    targetPositions[count] = position;
    targets[count] = inputIds[position] as number;
    count += 1;
  }
  return { inputIds, segments, queryRanks, keyRanks, targetPositions, targets };
}

interface RowStream {
  stream: TokenStream;
  /** Of the stream among those of one micro-batch: its draws do not depend on how the rows are split. */
  place: number;
}

/** One stream per row. With biData every micro-batch reads its streams first forwards, then backwards. */
function rowStreams(corpus: SentenceCorpus, config: XLNetSampleConfig, name: string): RowStream[] {
  const { batchSize, accumulation, seqLen, biData } = config;
  const directions = biData ? [false, true] : [false];
  const rows = batchSize / directions.length;
  const length = Math.floor(corpus.tokens.length / rows);
  if (length < seqLen) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `${name}: got ${corpus.tokens.length} tokens, expected at least ${rows * seqLen} for ${rows} streams of samples of ${seqLen}; ` +
        'give more text, or lower batchSize or seqLen',
    );
  }
  const rowsOfPart = rows / accumulation;
  return Array.from({ length: accumulation }, (_, part) =>
    directions.map((reversed) =>
      Array.from({ length: rowsOfPart }, (_, row): RowStream => {
        const cut = part * rowsOfPart + row;
        return {
          stream: new TokenStream(corpus, cut * length, length, reversed),
          place: reversed ? rows + cut : cut,
        };
      }),
    ),
  ).flat(2);
}

/** @throws XlformersError ERR_TOKEN_ID naming the first token outside the vocabulary */
function checkTokens(tokens: Int32Array, { sepId, clsId }: XLNetSampleConfig, vocabSize: number, name: string): void {
  const inside = (token: number) => token >= 0 && token < vocabSize;
  for (const [special, token] of [
    ['sepId', sepId],
    ['clsId', clsId],
  ] as const) {
    if (!inside(token))
      throw new XlformersError('ERR_TOKEN_ID', `data.${special}: got ${token}, ${expectedId(vocabSize)}`);
  }
  const bad = tokens.findIndex((token) => !inside(token));
  if (bad !== -1) {
    throw new XlformersError('ERR_TOKEN_ID', `${name}: got ${tokens[bad]} at token ${bad}, ${expectedId(vocabSize)}`);
  }
}

function expectedId(vocabSize: number): string {
  return `expected an id in [0, ${vocabSize}), the size of startPieces`;
}
