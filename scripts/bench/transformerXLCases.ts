import {
  type Memory,
  Tensor,
  TransformerXLLMHeadModel,
  fillRandom,
  Generator,
  noGrad,
  relativeAttention,
  scope,
} from '../../lib';
import { Adam } from '../../lib/train/adam';
import { type Case, type CaseMaker, randomIds } from './measure';

/** The published enwik8 base model, with random weights. */
export function enwik8Base(): TransformerXLLMHeadModel {
  return new TransformerXLLMHeadModel(
    {
      vocabSize: 204,
      cutoffs: [],
      divVal: 1,
      tieProjs: [false],
      nLayer: 12,
      dModel: 512,
      dEmbed: 512,
      nHead: 8,
      dHead: 64,
      dInner: 2048,
      dropout: 0.1,
      memLen: 512,
      clampLen: -1,
      sameLength: false,
    },
    { seed: 1, device: 'cpu' },
  );
}

/** What the foundation is measured by. */
export function transformerXLCases(model: TransformerXLLMHeadModel): CaseMaker[] {
  return [
    ['training step, batch 4, target 128, memory 128', () => trainCase(model, 4, 128, 128)],
    ['training step, batch 2, target 512, memory 512', () => trainCase(model, 2, 512, 512)],
    ['segment forward, batch 4, target 128, memory 128', () => forwardCase(model, 4, 128, 128)],
    ['segment forward, batch 1, target 512, memory 512', () => forwardCase(model, 1, 512, 512)],
    ['relative attention forward, length 2048', () => attentionCase(model, 2048)],
  ];
}

/** Query-key pairs that a causal segment with memory sees. */
function visiblePairs(batch: number, target: number, memory: number): number {
  return batch * (target * memory + (target * (target + 1)) / 2);
}

type Config = TransformerXLLMHeadModel['config'];

/** Content scores, position scores and the weighted sum: three products of the head size per visible pair and head. */
function attentionFlops({ nHead, dHead }: Pick<Config, 'nHead' | 'dHead'>, pairs: number): number {
  return 3 * 2 * nHead * dHead * pairs;
}

/** Projections and feed-forward of a row in a layer. */
function rowFlops({ dModel, nHead, dHead, dInner }: Config): number {
  return 2 * dModel * (3 * nHead * dHead + nHead * dHead + 2 * dInner);
}

/** Projections and feed-forward of the current rows, and attention. Cached keys, values and positions cost nothing. */
function forwardFlops(config: Config, batch: number, target: number, memory: number): number {
  return (
    config.nLayer * (batch * target * rowFlops(config) + attentionFlops(config, visiblePairs(batch, target, memory)))
  );
}

/** With the scores of the labels. */
export function evaluateFlops(config: Config, batch: number, target: number, memory: number): number {
  return forwardFlops(config, batch, target, memory) + headFlops(config, batch * target);
}

function trainFlops(config: Config, batch: number, target: number, memory: number): number {
  const { nLayer, nHead, dHead, dModel } = config;
  const rows = batch * target;
  const keyValue = 2 * batch * memory * dModel * 2 * nHead * dHead;
  const position = 2 * (target + memory) * dModel * nHead * dHead;
  const pairs = visiblePairs(batch, target, memory);
  // Forward; gradients of inputs and weights for current rows; of weights alone for memory rows and positions; 8 products per pair.
  const layer =
    3 * rows * rowFlops(config) + 2 * keyValue + 2 * position + (attentionFlops(config, pairs) * (3 + 8)) / 3;
  return nLayer * layer + 3 * headFlops(config, rows);
}

/** Of the adaptive softmax, for labels as `randomIds` draws them: the logarithm of a label is uniform. */
function headFlops({ dModel, dEmbed, divVal, cutoffs, vocabSize }: Config, rows: number): number {
  const ends = [...cutoffs, vocabSize];
  const head = (ends[0] as number) + ends.length - 1;
  let flops = 2 * rows * dModel * head;
  for (let cluster = 1; cluster < ends.length; cluster += 1) {
    const [from, to] = [ends[cluster - 1] as number, ends[cluster] as number];
    const share = (Math.log(to) - Math.log(from)) / Math.log(vocabSize);
    const width = Math.floor(dEmbed / divVal ** cluster);
    flops += 2 * rows * share * (dModel * width + width * (to - from));
  }
  return flops;
}

export function trainCase(model: TransformerXLLMHeadModel, batch: number, target: number, memory: number): Case {
  model.resetMemoryLength(memory);
  model.train();
  model.generator = new Generator(1);
  const settings = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, decoupled: false, clipNorm: 0.25 };
  const optimizer = new Adam(model.parameters(), settings);
  const { vocabSize } = model.config;
  let mems: Memory | undefined;
  let step = 0;
  return {
    request: { kind: 'train', batch, target, memory },
    flops: trainFlops(model.config, batch, target, memory),
    run: async () => {
      optimizer.zeroGrad();
      const { loss, next } = scope(() => {
        const { device } = model;
        const out = model.forward({
          inputIds: Tensor.from(randomIds(batch * target, vocabSize, 1), [batch, target], { device }),
          targets: Tensor.from(randomIds(batch * target, vocabSize, 2), [batch, target], { device }),
          mems,
        });
        (out.loss as Tensor).backward();
        return { loss: out.loss as Tensor, next: out.mems };
      });
      mems?.dispose();
      mems = next ?? undefined;
      step += 1;
      const clip = optimizer.step(step, 1e-4);
      await clip.data();
      clip.dispose();
      loss.dispose();
    },
    dispose: () => {
      mems?.dispose();
      optimizer.zeroGrad();
      optimizer.dispose();
      model.eval();
    },
  };
}

export function forwardCase(model: TransformerXLLMHeadModel, batch: number, target: number, memory: number): Case {
  model.resetMemoryLength(memory);
  model.eval();
  const { vocabSize } = model.config;
  let mems: Memory | undefined;
  return {
    request: { kind: 'forward', batch, target, memory },
    flops: forwardFlops(model.config, batch, target, memory),
    run: async () => {
      const { hidden, next } = noGrad(() =>
        scope(() => {
          const inputIds = Tensor.from(randomIds(batch * target, vocabSize, 1), [batch, target], {
            device: model.device,
          });
          const out = model.transformer.forward({ inputIds, mems });
          return { hidden: out.lastHiddenState, next: out.mems };
        }),
      );
      await model.device.synchronize();
      hidden.dispose();
      mems?.dispose();
      mems = next ?? undefined;
    },
    dispose: () => mems?.dispose(),
  };
}

function attentionCase(model: TransformerXLLMHeadModel, length: number): Case {
  const { device } = model;
  const [heads, headDim] = [model.config.nHead, model.config.dHead];
  const generator = new Generator(1);
  const normal = (shape: readonly number[]) => {
    const tensor = Tensor.zeros(shape, { device });
    fillRandom(tensor, { kind: 'normal', a: 0, b: 1 }, generator);
    return tensor;
  };
  const rows = [1, length, heads, headDim];
  const [query, key, value] = [normal(rows), normal(rows), normal(rows)];
  const position = normal([length, heads, headDim]);
  const [contentBias, positionBias] = [normal([heads, headDim]), normal([heads, headDim])];
  return {
    request: { kind: 'attention', length, heads, headDim },
    flops: attentionFlops(model.config, visiblePairs(1, length, 0)),
    run: async () => {
      const out = relativeAttention({ query, key, value, position, contentBias, positionBias });
      await device.synchronize();
      out.dispose();
    },
    dispose: () => {
      for (const tensor of [query, key, value, position, contentBias, positionBias]) tensor.dispose();
    },
  };
}
