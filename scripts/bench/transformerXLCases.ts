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

const layers = 12;
const dModel = 512;
const heads = 8;
const headDim = 64;
const dInner = 2048;
const vocabulary = 204;

/** The published enwik8 base model, with random weights. */
export function enwik8Base(): TransformerXLLMHeadModel {
  return new TransformerXLLMHeadModel(
    {
      vocabSize: vocabulary,
      cutoffs: [],
      divVal: 1,
      tieProjs: [false],
      nLayer: layers,
      dModel,
      dEmbed: dModel,
      nHead: heads,
      dHead: headDim,
      dInner,
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

/** Content scores, position scores and the weighted sum: three products of the head size per visible pair and head. */
function attentionFlops(pairs: number): number {
  return 3 * 2 * heads * headDim * pairs;
}

/** Projections and feed-forward of the current rows, attention, and the output layer. Cached keys, values and positions cost nothing. */
function forwardFlops(batch: number, target: number, memory: number): number {
  const rows = batch * target;
  const perRow = 2 * dModel * (3 * heads * headDim + heads * headDim + 2 * dInner);
  return layers * (rows * perRow + attentionFlops(visiblePairs(batch, target, memory)));
}

function trainFlops(batch: number, target: number, memory: number): number {
  const rows = batch * target;
  const keyValue = 2 * batch * memory * dModel * 2 * heads * headDim;
  const position = 2 * (target + memory) * dModel * heads * headDim;
  const perRow = 2 * dModel * (3 * heads * headDim + heads * headDim + 2 * dInner);
  const pairs = visiblePairs(batch, target, memory);
  // Forward; gradients of inputs and weights for current rows; of weights alone for memory rows and positions; 8 products per pair.
  const layer = 3 * rows * perRow + 2 * keyValue + 2 * position + (attentionFlops(pairs) * (3 + 8)) / 3;
  return layers * layer + 3 * 2 * rows * dModel * vocabulary;
}

function trainCase(model: TransformerXLLMHeadModel, batch: number, target: number, memory: number): Case {
  model.resetMemoryLength(memory);
  model.train();
  model.generator = new Generator(1);
  const settings = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, decoupled: false, clipNorm: 0.25 };
  const optimizer = new Adam(model.parameters(), settings);
  let mems: Memory | undefined;
  let step = 0;
  return {
    request: { kind: 'train', batch, target, memory },
    flops: trainFlops(batch, target, memory),
    run: async () => {
      optimizer.zeroGrad();
      const { loss, next } = scope(() => {
        const { device } = model;
        const out = model.forward({
          inputIds: Tensor.from(randomIds(batch * target, vocabulary, 1), [batch, target], { device }),
          targets: Tensor.from(randomIds(batch * target, vocabulary, 2), [batch, target], { device }),
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

function forwardCase(model: TransformerXLLMHeadModel, batch: number, target: number, memory: number): Case {
  model.resetMemoryLength(memory);
  model.eval();
  let mems: Memory | undefined;
  return {
    request: { kind: 'forward', batch, target, memory },
    flops: forwardFlops(batch, target, memory),
    run: async () => {
      const { hidden, next } = noGrad(() =>
        scope(() => {
          const inputIds = Tensor.from(randomIds(batch * target, vocabulary, 1), [batch, target], {
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
    flops: attentionFlops(visiblePairs(1, length, 0)),
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
