import { Generator, noGrad, scope, Tensor, XLNetLMHeadModel } from '../../lib';
import { Adam } from '../../lib/train/adam';
import { type Case, type CaseMaker, randomIds } from './measure';

/** XLNet base, with random weights. */
export function xlnetBase(): XLNetLMHeadModel {
  return new XLNetLMHeadModel(
    { vocabSize: 32_000, nLayer: 12, dModel: 768, nHead: 12, dInner: 3072, memLen: null, useMemsEval: false },
    { seed: 1, device: 'cpu' },
  );
}

export function xlnetCases(model: XLNetLMHeadModel): CaseMaker[] {
  return [
    ['XLNet forward, batch 8, length 128', () => forwardCase(model, 8, 128)],
    ['XLNet forward, batch 4, length 512', () => forwardCase(model, 4, 512)],
    ['XLNet forward, batch 1, length 1024', () => forwardCase(model, 1, 1024)],
    ['XLNet two-stream training step, batch 2, length 256, 42 targets', () => trainCase(model, 2, 256, 42)],
    ['XLNet two-stream training step, batch 1, length 512, 85 targets', () => trainCase(model, 1, 512, 85)],
  ];
}

type Config = XLNetLMHeadModel['config'];

/** Floating-point operations of a layer. */
const unitsOf = ({ dModel, dInner }: Config) => ({
  /** Query, output and feed-forward products of a row. */
  query: 2 * dModel * (2 * dModel + 2 * dInner),
  /** Key and value products of a content row. */
  keyValue: 2 * dModel * 2 * dModel,
  /** Content scores, position scores and the weighted sum of a query-key pair. */
  pair: 3 * 2 * dModel,
  /** The projection of a relative position. */
  position: 2 * dModel * dModel,
});

/** Projected positions are kept. */
function forwardFlops(config: Config, batch: number, length: number): number {
  const unit = unitsOf(config);
  const rows = batch * length;
  return config.nLayer * (rows * (unit.query + unit.keyValue) + rows * length * unit.pair);
}

/** A token of a text behind a memory whose keys and values are kept, and the row that predicts the next one. */
export function decodeFlops(config: Config, batch: number, memory: number): number {
  const { nLayer, dModel, vocabSize } = config;
  const unit = unitsOf(config);
  return batch * (nLayer * (2 * unit.query + unit.keyValue + 2 * memory * unit.pair) + 2 * dModel * vocabSize);
}

/** The last layer's content stream has keys and values only. */
function trainFlops(config: Config, batch: number, length: number, targets: number): number {
  const { nLayer, dModel, vocabSize } = config;
  const unit = unitsOf(config);
  const content = batch * length;
  const queries = batch * targets;
  const contentLayers = nLayer - 1;
  const products =
    3 * (contentLayers * content * unit.query + nLayer * (content * unit.keyValue + queries * unit.query)) +
    3 * nLayer * 2 * length * unit.position;
  // Eight products per pair backward against three forward.
  const pairs = ((contentLayers * content + nLayer * queries) * length * unit.pair * (3 + 8)) / 3;
  return products + pairs + 3 * 2 * queries * dModel * vocabSize;
}

export function forwardCase(model: XLNetLMHeadModel, batch: number, length: number): Case {
  model.eval();
  return {
    request: { kind: 'xlnetForward', batch, length },
    flops: forwardFlops(model.config, batch, length),
    run: async () => {
      const hidden = noGrad(() =>
        scope(() => {
          const ids = randomIds(batch * length, model.config.vocabSize, 1);
          const inputIds = Tensor.from(ids, [batch, length], { device: model.device });
          return model.transformer.forward({ inputIds }).lastHiddenState;
        }),
      );
      await model.device.synchronize();
      hidden.dispose();
    },
    dispose: () => undefined,
  };
}

export function trainCase(model: XLNetLMHeadModel, batch: number, length: number, targets: number): Case {
  model.train();
  model.generator = new Generator(1);
  const settings = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, decoupled: false, clipNorm: 0.25 };
  const optimizer = new Adam(model.parameters(), settings);
  const { device } = model;
  let step = 0;
  return {
    request: { kind: 'xlnetTrain', batch, length, targets },
    flops: trainFlops(model.config, batch, length, targets),
    run: async () => {
      optimizer.zeroGrad();
      const loss = scope(() => {
        const integers = (values: Int32Array<ArrayBuffer>, columns: number) =>
          Tensor.from(values, [batch, columns], { device });
        // Every sixth token is predicted, in the order of their positions; a token sees those that are not.
        const positions = Int32Array.from({ length: batch * targets }, (_, index) => (index % targets) * 6);
        const ranks = Int32Array.from({ length: batch * length }, (_, index) => {
          const position = index % length;
          return position % 6 === 0 && position < 6 * targets ? position : -1;
        });
        const out = model.forward({
          inputIds: integers(randomIds(batch * length, model.config.vocabSize, 1), length),
          queryRanks: integers(
            ranks.map((rank) => (rank < 0 ? 0 : rank)),
            length,
          ),
          keyRanks: integers(ranks, length),
          targetPositions: integers(positions, targets),
          labels: integers(randomIds(batch * targets, model.config.vocabSize, 2), targets),
        });
        (out.loss as Tensor).backward();
        return out.loss as Tensor;
      });
      step += 1;
      const clip = optimizer.step(step, 1e-4);
      await clip.data();
      clip.dispose();
      loss.dispose();
    },
    dispose: () => {
      optimizer.zeroGrad();
      optimizer.dispose();
      model.eval();
    },
  };
}
