import { type DType, isShortFloat } from './dtype';
import { XlformersError, argumentError } from './errors';
import { add } from './ops/add';
import { keep, runNow, scope } from './scope';
import { Tensor } from './tensor';

/**
 * Where the gradient of one input goes, for gradient operators that can add to what is there (a weight's gradient over several uses
 * or several micro-batches costs no extra pass).
 */
export interface GradientTarget {
  /** A tensor of the input's shape: the gradient so far, or fresh memory. */
  tensor: Tensor;
  /** True: add to it. False: overwrite all of it. */
  accumulate: boolean;
}

/** What a gradient function may ask for. */
export interface GradientContext {
  /** The tensors that the forward operator saved, in its order. Freed afterwards. */
  readonly saved: readonly Tensor[];
  /** Whether the gradient of that input is wanted. */
  wants(input: number): boolean;
  /** Memory for the gradient of that input; call it only when wanted, and return null for the input. */
  target(input: number): GradientTarget;
  /**
   * As `target`; but where the input is a cast of a float32 tensor to 16 bits, memory for the gradient of that tensor: for operators
   * that add up in float32 and can leave it so.
   */
  wideTarget(input: number): GradientTarget;
}

/** Gradients with respect to the inputs, from those with respect to the outputs (null: nothing flowed there). */
export type GradientFunction = (
  gradients: readonly (Tensor | null)[],
  context: GradientContext,
) => readonly (Tensor | null)[];

/** One operator call on the tape. */
export interface TapeRecord {
  name: string;
  inputs: readonly (Tensor | null | undefined)[];
  outputs: readonly Tensor[];
  /** Tensors that the gradient needs; the tape holds their memory until it has run. */
  saved: readonly Tensor[];
  /** The output is the input in another type, and so is its gradient. Default false. */
  cast?: boolean;
  gradient: GradientFunction;
}

/** The end of an edge: a leaf's `grad`, or the slot of an output of an earlier operator. */
type Edge = { leaf: Tensor } | { node: TapeNode; output: number; shape: readonly number[]; dtype: DType };

let gradEnabled = true;
let nextId = 0;

export function isGradEnabled(): boolean {
  return gradEnabled;
}

/**
 * Runs `body` without recording: for inference, evaluation, and inside gradients.
 * @throws XlformersError ERR_ARG_TYPE when `body` returns a promise: what runs after an `await` would be recorded again.
 */
export function noGrad<T>(body: () => T): T {
  const before = gradEnabled;
  gradEnabled = false;
  try {
    return runNow('noGrad', body);
  } finally {
    gradEnabled = before;
  }
}

/** An operator on the tape, alive while an output or a later operator refers to it. */
export class TapeNode {
  readonly id = nextId++;
  readonly gradients: (Tensor | null)[];
  private references: number;
  private saved: Tensor[] | null;
  private readonly edges: (Edge | null)[];

  readonly name: string;
  private readonly cast: boolean;
  private readonly gradient: GradientFunction;

  constructor({ name, inputs, outputs, saved, cast = false, gradient }: TapeRecord) {
    this.name = name;
    this.cast = cast;
    this.gradient = gradient;
    this.references = outputs.length;
    this.gradients = outputs.map(() => null);
    this.saved = saved.map((tensor) => keep(tensor.alias()));
    this.edges = inputs.map((input) => {
      if (!input) return null;
      if (input.node !== null) {
        input.node.references += 1;
        return { node: input.node, output: input.outputIndex, shape: input.shape, dtype: input.dtype };
      }
      return input.requiresGrad ? { leaf: input } : null;
    });
  }

  /** The operators whose outputs this one read. */
  *parents(): Iterable<TapeNode> {
    for (const edge of this.edges) if (edge && 'node' in edge) yield edge.node;
  }

  /** One reference less; without any, everything kept for the gradient is freed, and so on upwards. */
  release(): void {
    const pending: TapeNode[] = [this];
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      node.references -= 1;
      if (node.references > 0) continue;
      node.free();
      for (const edge of node.edges) if (edge && 'node' in edge) pending.push(edge.node);
    }
  }

  /** Whether the gradient ran, or everything that refers to the operator is disposed. */
  get used(): boolean {
    return this.saved === null;
  }

  /** Runs the gradient function and hands the results to the edges. */
  run(): void {
    const results = this.gradient(this.gradients, {
      saved: this.saved as Tensor[],
      wants: (input) => this.edge(input) !== null,
      target: (input) => this.target(input, this.edge(input)),
      wideTarget: (input) => this.target(input, this.wideEdge(input)),
    });
    results.forEach((result, input) => {
      const edge = this.edge(input);
      if (result !== null && edge) deposit(edge, result);
    });
    this.free();
  }

  /** Forgets what has flowed here so far. */
  clearGradients(): void {
    this.gradients.forEach((gradient, index) => {
      gradient?.dispose();
      this.gradients[index] = null;
    });
  }

  /** Where the gradient of an input goes; nowhere when the leaf was disposed meanwhile. */
  private edge(input: number): Edge | null {
    const edge = this.edges[input];
    return edge && !('leaf' in edge && edge.leaf.disposed) ? edge : null;
  }

  /** Past a cast from float32. */
  private wideEdge(input: number): Edge | null {
    const edge = this.edge(input);
    if (!edge || !('node' in edge) || !edge.node.cast || !isShortFloat(edge.dtype)) return edge;
    const source = edge.node.edge(0);
    return source && dtypeOf(source) === 'float32' ? source : edge;
  }

  private target(input: number, edge: Edge | null): GradientTarget {
    if (!edge) throw new XlformersError('ERR_INTERNAL', `${this.name}: the gradient of input ${input} is not wanted`);
    const existing = 'leaf' in edge ? edge.leaf.grad : edge.node.gradients[edge.output];
    if (existing && existing.exclusive) return { tensor: existing, accumulate: true };
    const { shape, dtype } = 'leaf' in edge ? edge.leaf : edge;
    const { device } = this.gradients.find((gradient) => gradient !== null) as Tensor;
    const fresh = keep(Tensor.empty(shape, dtype, device));
    if (existing) {
      add(existing, fresh, { alpha: 1, beta: 0, out: fresh });
      existing.dispose();
    }
    store(edge, fresh);
    return { tensor: fresh, accumulate: Boolean(existing) };
  }

  private free(): void {
    for (const tensor of this.saved ?? []) tensor.dispose();
    this.saved = null;
    this.clearGradients();
  }
}

/** @internal Puts an operator call on the tape, so that its outputs track gradients. */
export function record(call: TapeRecord): void {
  const node = new TapeNode(call);
  call.outputs.forEach((output, index) => {
    output.node = node;
    output.outputIndex = index;
  });
}

function dtypeOf(edge: Edge): DType {
  return ('leaf' in edge ? edge.leaf : edge).dtype;
}

function store(edge: Edge, gradient: Tensor): void {
  if ('leaf' in edge) edge.leaf.grad = gradient;
  else edge.node.gradients[edge.output] = gradient;
}

function deposit(edge: Edge, gradient: Tensor): void {
  const existing = 'leaf' in edge ? edge.leaf.grad : edge.node.gradients[edge.output];
  if (!existing) {
    store(edge, keep(gradient.alias()));
  } else if (existing.exclusive) {
    add(existing, gradient, { out: existing });
  } else {
    store(edge, keep(add(existing, gradient)));
    existing.dispose();
  }
}

/** @internal See `Tensor.backward`. */
export function backward(root: Tensor, gradient?: Tensor): void {
  const start = root.node;
  if (start === null) {
    throw new XlformersError('ERR_AUTOGRAD', 'backward: this tensor depends on nothing that requires a gradient');
  }
  if (gradient !== undefined) requireGradientOf(root, gradient);
  else if (root.size !== 1) {
    throw new XlformersError('ERR_AUTOGRAD', `backward: shape [${root.shape.join(', ')}] needs an explicit gradient`);
  }
  const order = reverseOrder(start);
  // Before anything flows, so that a refusal leaves every gradient as it was.
  const used = order.find((node) => node.used);
  if (used) {
    throw new XlformersError('ERR_AUTOGRAD', `backward: the tape of ${used.name} was used already; run forward again`);
  }
  try {
    noGrad(() => {
      start.gradients[root.outputIndex] = gradient
        ? keep(gradient.alias())
        : keep(Tensor.full(root.shape, 1, { dtype: root.dtype, device: root.device }));
      for (const node of order) {
        if (node.gradients.some((value) => value !== null)) scope(() => node.run());
      }
    });
  } catch (error) {
    for (const node of order) node.clearGradients();
    throw error;
  }
}

/** Every operator behind one, in an order in which each comes before its inputs. */
function reverseOrder(start: TapeNode): TapeNode[] {
  const seen = new Set<TapeNode>([start]);
  const pending = [start];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    for (const parent of node.parents()) {
      if (seen.has(parent)) continue;
      seen.add(parent);
      pending.push(parent);
    }
  }
  // Operators were recorded in an order in which each follows its inputs.
  return [...seen].sort((a, b) => b.id - a.id);
}

function requireGradientOf(root: Tensor, gradient: Tensor): void {
  if (!(gradient instanceof Tensor)) throw argumentError('ERR_ARG_TYPE', 'gradient', gradient, 'a Tensor');
  if (gradient.shape.join() !== root.shape.join()) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `gradient: got shape [${gradient.shape.join(', ')}], expected [${root.shape.join(', ')}]`,
    );
  }
  if (gradient.dtype !== root.dtype) {
    throw new XlformersError('ERR_ARG_TYPE', `gradient: got dtype ${gradient.dtype}, expected ${root.dtype}`);
  }
  if (gradient.device !== root.device) {
    throw new XlformersError(
      'ERR_ARG_HANDLE',
      `gradient: got a tensor on ${gradient.device.name}, expected one on ${root.device.name}`,
    );
  }
}
