"""The rivals of the fused attention on a GPU, and the ceilings of that GPU, measured in one run (gpu_measure.py: the arguments).

OWN is what native/test/gpu/attention_benchmark printed. Rivals, in bf16 and fp32:
  eager     the layer's formula as Hugging Face writes it: two products, shift, scale, mask, softmax, product
  sdpa      scaled-dot-product attention with the skewed bias as its additive mask
  flex      FlexAttention whose score_mod reads the un-skewed products of queries and positions, which cuBLAS makes
  compiled  eager under torch.compile
What a rival has to make first (products of queries and positions, the skew) is part of its time. `backward` is the time of the gradients
alone, of all operands. Those that need no compilation come first, and bf16 before fp32. In a rehearsal all rivals must agree.
"""

import datetime
import json

import torch
import torch.nn.functional as F

from gpu_measure import (
    ARGUMENTS, CPU, DEVICE, DTYPES, NEEDED, RATES, Failures, attempt, attempt_alone, ceilings, ceilings_text, compile_ahead, device_name,
    microseconds, rates, seconds_left, write,
)  # fmt: skip

# name, XLNet, streams, batch, queries, memory, heads, head size; attention_benchmark.cu has the same list.
CASES = [
    ("txl-base-train", False, 1, 60, 150, 150, 10, 41),
    ("txl-large-train", False, 1, 32, 384, 384, 16, 64),
    ("txl-large-eval", False, 1, 8, 128, 1600, 16, 64),
    ("txl-large-decode-1", False, 1, 1, 1, 1600, 16, 64),
    ("txl-large-decode-32", False, 1, 32, 1, 1600, 16, 64),
    ("xlnet-large-pretrain", True, 2, 16, 512, 384, 16, 64),
    ("xlnet-large-finetune", True, 1, 32, 512, 0, 16, 64),
]
if CPU:
    CASES = [("txl", False, 1, 2, 6, 5, 2, 8), ("xlnet", True, 2, 2, 6, 4, 2, 8)]
PLAIN, COMPILED = ("eager", "sdpa"), ("flex", "compiled")


def shift(x, keys):
    """[.., T, P] products with positions of falling distance -> [.., T, keys] aligned by distance, as in the original (rel_shift)."""
    *lead, queries, positions = x.shape
    x = F.pad(x, (1, 0)).reshape(*lead, positions + 1, queries)[..., 1:, :].reshape(*lead, queries, positions)
    return x[..., :keys]


class Problem:
    """Operands [batch, heads, rows, head size]; positions by falling distance, row p = j - i + offset."""

    def __init__(self, case, dtype):
        _, self.xlnet, self.streams, batch, self.queries, memory, heads, size = case
        self.keys = memory + self.queries
        self.offset = self.queries if self.xlnet else self.queries - 1
        positions = self.keys + self.queries if self.xlnet else self.keys
        torch.manual_seed(0)

        def make(*shape):
            return torch.randn(*shape, device=DEVICE, dtype=dtype, requires_grad=True)

        self.scale = size**-0.5
        self.query = [make(batch, heads, self.queries, size) for _ in range(self.streams)]
        self.key, self.value = make(batch, heads, self.keys, size), make(batch, heads, self.keys, size)
        self.position = make(heads, positions, size)
        self.u, self.v = make(heads, 1, size), make(heads, 1, size)
        self.operands = [*self.query, self.key, self.value, self.position, self.u, self.v]
        i = torch.arange(self.queries, device=DEVICE)[:, None]
        j = torch.arange(self.keys, device=DEVICE)[None, :]
        hidden = j > memory + i
        self.hidden = [hidden]
        if self.xlnet:
            self.s, self.e = make(heads, 1, size), make(heads, 2, size)
            self.operands += [self.s, self.e]
            # Memory counts as segment 0, and so does everything here: as the operator, rivals look each pair up.
            self.same = torch.zeros(self.queries, self.keys, dtype=torch.long, device=DEVICE)
            self.same_one_hot = F.one_hot(self.same, 2).to(dtype)
            self.columns = torch.arange(self.keys, device=DEVICE)
            self.hidden = [None]
            if self.streams == 2:
                ranks = torch.randperm(self.queries, device=DEVICE)
                past = torch.full((self.queries, memory), False, device=DEVICE)
                query_stream = torch.cat([past, ranks[None, :] >= ranks[:, None]], 1)
                self.hidden = [query_stream & (j != memory + i), query_stream]
        if self.streams == 1 and memory == 0 and not self.xlnet:
            raise ValueError("a case without memory is XLNet's")
        self.out_gradient = torch.randn_like(self.query[0])

    def segment_terms(self, q):
        return torch.matmul(q + self.s, self.e.transpose(-1, -2))  # [B, H, T, 2]

    def bias(self, stream):
        """The skewed, scaled additive term [B, H, T, S]."""
        q = self.query[stream]
        term = shift(torch.matmul(q + self.v, self.position.transpose(-1, -2)), self.offset_keys())[..., self.first_column() :]
        if self.xlnet:
            term = term + self.segment_terms(q).gather(-1, self.same.expand(*q.shape[:2], -1, -1))
        return term * self.scale

    def first_column(self):
        # rel_shift aligns column j with row p = j - i + T - 1 + 1 (XLNet's table has one distance more in front).
        return self.offset - (self.queries - 1)

    def offset_keys(self):
        return self.keys + self.first_column()

    def eager(self, stream):
        """With the passes of Hugging Face's layers, one for one (eager_scores.py counts them)."""
        q, hidden = self.query[stream], self.hidden[stream]
        products = torch.matmul(q + self.v, self.position.transpose(-1, -2))
        scores = torch.matmul(q + self.u, self.key.transpose(-1, -2))
        if self.xlnet:
            batch, heads, queries, positions = products.shape
            shifted = products.reshape(batch, heads, positions, queries)[:, :, 1:, :].reshape(batch, heads, queries, positions - 1)
            scores = scores + shifted.index_select(3, self.columns)
            scores = scores + torch.einsum("ijs,bhis->bhij", self.same_one_hot, self.segment_terms(q))
        else:
            scores = scores + shift(products, self.keys)
        scores = scores * self.scale
        if hidden is not None:
            scores = scores - 1e30 * hidden.to(q.dtype) if self.xlnet else scores.masked_fill(hidden, -1e30)
        return torch.matmul(torch.softmax(scores, -1), self.value)

    def sdpa(self, stream):
        bias, hidden = self.bias(stream), self.hidden[stream]
        if hidden is not None:
            bias = bias.masked_fill(hidden, -1e30)
        return F.scaled_dot_product_attention(self.query[stream] + self.u, self.key, self.value, attn_mask=bias, scale=self.scale)

    def make_flex(self):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        attention = torch.compile(flex_attention, dynamic=False)
        masks = [
            hidden
            if hidden is None
            else create_block_mask(lambda b, h, i, j, hidden=hidden: ~hidden[i, j], None, None, self.queries, self.keys, device=DEVICE)
            for hidden in self.hidden
        ]
        offset, scale = self.offset, self.scale

        def run(stream):
            q = self.query[stream]
            products = torch.matmul(q + self.v, self.position.transpose(-1, -2))
            if not self.xlnet:

                def score_mod(score, b, h, i, j):
                    return score + scale * products[b, h, i, (j - i + offset).clamp(0, products.shape[-1] - 1)]

            else:
                segments, same = self.segment_terms(q), self.same

                def score_mod(score, b, h, i, j):
                    return score + scale * (products[b, h, i, j - i + offset] + segments[b, h, i, same[i, j]])

            return attention(q + self.u, self.key, self.value, score_mod=score_mod, block_mask=masks[stream], scale=scale)

        return run


def rival(problem, name):
    if name == "compiled":
        return torch.compile(problem.eager, dynamic=False)
    return problem.make_flex() if name == "flex" else getattr(problem, name)


def passes(case, dtype, name):
    """What is timed: the forward pass and, of more than one query, the gradients, whose call first makes what they need."""
    problem = Problem(case, DTYPES[dtype])
    # FlexAttention has no gradients on the CPU.
    with_gradients = problem.queries > 1 and not (CPU and name == "flex")
    for operand in problem.operands:
        operand.requires_grad_(with_gradients)
    run = rival(problem, name)
    streams = range(problem.streams)

    def forward():
        with torch.no_grad():
            for stream in streams:
                run(stream)

    def backward():
        outs = [run(stream) for stream in streams]
        gradients = [problem.out_gradient] * len(outs)
        return lambda: torch.autograd.grad(outs, problem.operands, gradients, retain_graph=True, allow_unused=True)

    return forward, backward if with_gradients else None


def compile_both(case, dtype, name):
    forward, backward = passes(case, dtype, name)
    forward()
    if backward is not None:
        backward()()


def measure(case, dtype, name):
    forward, backward = passes(case, dtype, name)
    result = {}
    before = 0
    if not CPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    result["forward"] = microseconds(forward)
    if not CPU:
        result["peakBytes"] = torch.cuda.max_memory_allocated() - before
    if backward is not None:
        # A failure here leaves the forward pass its time.
        gradients = attempt(lambda: {"backward": microseconds(backward())})
        result |= {"backwardError": gradients["error"]} if "error" in gradients else gradients
    return result


def visible_pairs(case):
    """Pairs of query and key that someone must look at, of all batch rows, heads and streams."""
    _, xlnet, streams, batch, queries, memory, heads, _ = case
    if not xlnet:
        pairs = queries * memory + queries * (queries + 1) // 2
    elif streams == 1:
        pairs = queries * (memory + queries)
    else:
        pairs = 2 * queries * memory + queries * queries  # content sees itself, the query stream does not
    return batch * heads * pairs


def least_bytes(case, which, dtype):
    """Operands and results once: of the forward pass, and of the gradients, which read what it read and left."""
    _, xlnet, streams, batch, queries, memory, heads, size = case
    keys = memory + queries
    rows, kept = streams * batch * queries * heads, batch * keys * heads
    positions = (keys + queries if xlnet else keys) * heads
    elements = 2 * rows + 2 * kept + positions if which == "forward" else 4 * rows + 4 * kept + 2 * positions
    return elements * size * DTYPES[dtype].itemsize + 4 * rows  # log-sum-exps


def table(results, own, limits):
    lines = [
        f"| case | type | pass | xlformers, us | {RATES} | eager | sdpa | flex | compiled | times eager | times the best rival |",
        "|---" * 14 + "|",
    ]
    failures, missing = Failures(), 0
    for case, dtype, which, factor in ((c, d, *p) for c in CASES for d in DTYPES for p in (("forward", 6), ("backward", 12))):
        if which == "backward" and case[4] == 1:
            continue
        cells, times = [], {}
        for name in PLAIN + COMPILED:
            found = results.get((case[0], dtype, name), {})
            error = found.get("error", found.get("backwardError") if which == "backward" else None)
            if which in found:
                times[name] = found[which]
            missing += which not in found and error is None
            cells.append(f"{times[name]:.0f}" if name in times else failures.cell(error) if error else "")
        mine = own.get((case[0], dtype, which), {})
        time = mine.get("microseconds")
        if time is None:
            own_cells = [failures.cell(mine["error"]) if "error" in mine else "", "", "", "", ""]
            missing += "error" not in mine
        else:
            operations = factor * case[7] * visible_pairs(case)
            own_cells = [f"{time:.1f}", *rates(operations, least_bytes(case, which, dtype), time * 1e-6, limits, dtype)]
        against = [f"{rival / time:.2f}" if rival and time else "" for rival in (times.get("eager"), min(times.values(), default=None))]
        lines.append(f"| {' | '.join([case[0], dtype, which, *own_cells, *cells, *against])} |")
    empty = f"\nNot measured, as the time was up: {missing} cells, which are empty.\n" if missing else ""
    return "\n".join(lines) + "\n" + failures.notes() + empty


def agree():
    for case in CASES:
        problem = Problem(case, torch.float32)
        for operand in problem.operands:
            operand.requires_grad_(False)
        for stream in range(problem.streams):
            expected = problem.eager(stream)
            for name in ("sdpa", "flex", "compiled"):
                torch.testing.assert_close(rival(problem, name)(stream), expected, rtol=1e-4, atol=1e-5)
    print("all rivals agree")


def publish(results, own, limits):
    write(
        ARGUMENTS.markdown,
        f"## Fused attention on a GPU: {device_name()} ({datetime.date.today().isoformat()})\n\n"
        f"torch {torch.__version__}. {ceilings_text(limits)} "
        "Operations and bytes are those nobody can avoid: 6 (forward) and 12 (backward) times the head size for every visible pair; operands "
        "and results once. "
        "Microseconds, medians.\n\n" + table(results, own, limits),
    )
    rows = [dict(case=case, dtype=dtype, rival=name, **found) for (case, dtype, name), found in results.items()]
    summary = {"device": device_name(), "torch": torch.__version__, "ceilings": limits, "own": list(own.values()), "rivals": rows}
    write(ARGUMENTS.json, json.dumps(summary, indent=1))


def main():
    if CPU:
        agree()
    with open(ARGUMENTS.own) as lines:
        own = {(row["case"], row["dtype"], row["pass"]): row for row in map(json.loads, lines)}
    limits = ceilings()
    results = {}
    for dtypes, names in ((DTYPES, PLAIN), (["bf16"], COMPILED), (["f32"], COMPILED)):
        tasks = [(case, dtype, name) for dtype in dtypes for name in names for case in CASES]
        if names == COMPILED and seconds_left() > NEEDED:
            compile_ahead(compile_both, tasks, 2 if CPU else 12)
        for case, dtype, name in tasks:
            if seconds_left() > NEEDED:
                found = results[case[0], dtype, name] = attempt_alone(measure, case, dtype, name)
                print(case[0], dtype, name, found, flush=True)
                publish(results, own, limits)
    publish(results, own, limits)
    failed = [f"xlformers failed: {row['case']} {row['dtype']} {row['pass']}: {row['error']}" for row in own.values() if "error" in row]
    if failed or not own:
        raise SystemExit("\n".join(failed or ["xlformers measured nothing"]))


if __name__ == "__main__":
    main()
