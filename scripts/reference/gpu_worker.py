"""The rivals of the fused attention on a GPU, and the ceilings of that GPU, measured in one run.

gpu_worker.py OWN.jsonl OUT.md OUT.json: OWN is what native/test/gpu/attention_benchmark printed. Rivals, in bf16 and fp32:
  eager     the layer's formula as Hugging Face writes it: two products, shift, scale, mask, softmax, product
  compiled  the same under torch.compile
  flex      FlexAttention whose score_mod reads the un-skewed products of queries and positions, which cuBLAS makes
  sdpa      scaled-dot-product attention with the skewed bias as its additive mask
What a rival has to make first (products of queries and positions, the skew) is part of its time. `backward` is the time of the gradients
alone, of all operands. A rival that fails is listed with its error. `--cpu` runs tiny shapes on the CPU: a dry run of the arithmetic, in
which all rivals must agree.
"""

import datetime
import json
import statistics
import sys

import torch
import torch.nn.functional as F

DRY = "--cpu" in sys.argv
DEVICE = "cpu" if DRY else "cuda"
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
if DRY:
    CASES = [("txl", False, 1, 2, 6, 5, 2, 8), ("xlnet", True, 2, 2, 6, 4, 2, 8)]
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def synchronize():
    if not DRY:
        torch.cuda.synchronize()


def microseconds(run):
    """Median of ten groups; each long enough for the clock."""
    if DRY:
        run()
        return 1.0
    for _ in range(3):
        run()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def group(runs):
        begin.record()
        for _ in range(runs):
            run()
        end.record()
        synchronize()
        return 1e3 * begin.elapsed_time(end) / runs

    runs = max(3, min(1000, int(30e3 / max(group(3), 1.0))))
    return statistics.median(group(runs) for _ in range(10))


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
        q, hidden = self.query[stream], self.hidden[stream]
        scores = torch.matmul(q + self.u, self.key.transpose(-1, -2)) * self.scale + self.bias(stream)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -1e30)
        return torch.matmul(torch.softmax(scores.float(), -1).to(q.dtype), self.value)

    def sdpa(self, stream):
        bias, hidden = self.bias(stream), self.hidden[stream]
        if hidden is not None:
            bias = bias.masked_fill(hidden, -1e30)
        return F.scaled_dot_product_attention(self.query[stream] + self.u, self.key, self.value, attn_mask=bias, scale=self.scale)

    def make_flex(self):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        attention = flex_attention if DRY else torch.compile(flex_attention, dynamic=False)
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
        return problem.eager if DRY else torch.compile(problem.eager, dynamic=False)
    return problem.make_flex() if name == "flex" else getattr(problem, name)


def measure(case, dtype, name):
    torch.compiler.reset()
    problem = Problem(case, DTYPES[dtype])
    run = rival(problem, name)
    streams = range(problem.streams)
    result = {}

    def forward():
        with torch.no_grad():
            for stream in streams:
                run(stream)

    if not DRY:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    result["forward"] = microseconds(forward)
    if not DRY:
        result["peakBytes"] = torch.cuda.max_memory_allocated() - before
    if problem.queries > 1:
        outs = [run(stream) for stream in streams]
        gradients = [problem.out_gradient] * len(outs)
        result["backward"] = microseconds(
            lambda: torch.autograd.grad(outs, problem.operands, gradients, retain_graph=True, allow_unused=True)
        )
    return result


def ceilings():
    if DRY:
        return {"bf16": 1.0, "f32": 1.0, "bytesPerSecond": 1.0}
    result = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=dtype) for _ in range(2))
        result[name] = 2 * 8192**3 / (microseconds(lambda: torch.matmul(a, b)) * 1e-6)
        del a, b
    source = torch.empty(2**31, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    result["bytesPerSecond"] = 2 * 2**31 / (microseconds(lambda: target.copy_(source)) * 1e-6)
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


def table(results, own, limits):
    lines = [
        "| case | type | pass | xlformers, us | TFLOP/s | share of the matrix ceiling | eager | compiled | flex | sdpa | times eager | times the best rival |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for dtype in DTYPES:
            for which, factor in (("forward", 6), ("backward", 12)):
                rivals = {name: results.get((case[0], dtype, name), {}) for name in RIVALS}
                times = {name: found[which] for name, found in rivals.items() if which in found}
                mine = own.get((case[0], dtype, which), {})
                if not times and not mine:
                    continue
                cells = [f"{times[name]:.0f}" if name in times else "failed" for name in RIVALS]
                time = mine.get("microseconds")
                if time is None:
                    lines.append(f"| {case[0]} | {dtype} | {which} | {mine.get('error', 'not measured')} | | | {' | '.join(cells)} | | |")
                    continue
                rate = factor * case[7] * visible_pairs(case) / (time * 1e-6)
                against = [f"{times['eager'] / time:.2f}" if "eager" in times else "", f"{min(times.values()) / time:.2f}" if times else ""]
                lines.append(
                    f"| {case[0]} | {dtype} | {which} | {time:.1f} | {rate / 1e12:.1f} | {100 * rate / limits[dtype]:.0f} % | "
                    f"{' | '.join(cells)} | {' | '.join(against)} |"
                )
    return "\n".join(lines)


RIVALS = ("eager", "compiled", "flex", "sdpa")


def agree():
    for case in CASES:
        problem = Problem(case, torch.float32)
        for stream in range(problem.streams):
            expected = problem.eager(stream)
            for name in ("flex", "sdpa"):
                # FlexAttention has no gradients on the CPU.
                for operand in problem.operands:
                    operand.requires_grad_(name != "flex")
                torch.testing.assert_close(rival(problem, name)(stream), expected, rtol=1e-4, atol=1e-5)
    print("all rivals agree")


def main():
    if DRY:
        agree()
    own_file, markdown_file, json_file = [argument for argument in sys.argv[1:] if argument != "--cpu"]
    with open(own_file) as lines:
        own = {(row["case"], row["dtype"], row["pass"]): row for row in map(json.loads, lines)}
    torch.backends.cuda.matmul.allow_tf32 = False
    limits = ceilings()
    results = {}
    for case in CASES:
        for dtype in DTYPES:
            for name in RIVALS:
                try:
                    results[case[0], dtype, name] = measure(case, dtype, name)
                except Exception as error:  # a rival that cannot is a result too
                    results[case[0], dtype, name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
                print(case[0], dtype, name, results[case[0], dtype, name], flush=True)
                if not DRY:
                    torch.cuda.empty_cache()
    device = "CPU, dry run" if DRY else torch.cuda.get_device_name()
    with open(markdown_file, "w") as out:
        out.write(
            f"## Fused attention on a GPU: {device} ({datetime.date.today().isoformat()})\n\n"
            f"torch {torch.__version__}. Ceilings of the same run: {limits['bf16'] / 1e12:.0f} TFLOP/s (bf16) and {limits['f32'] / 1e12:.1f} "
            f"TFLOP/s (fp32) in products of 8192 x 8192 x 8192, {limits['bytesPerSecond'] / 1e12:.2f} TB/s in a copy, both ways counted. "
            "Operations are those nobody can avoid: 6 (forward) and 12 (backward) times the head size for every visible pair. "
            "Microseconds, medians.\n\n" + table(results, own, limits) + "\n"
        )
    with open(json_file, "w") as out:
        rows = [dict(case=case, dtype=dtype, rival=name, **found) for (case, dtype, name), found in results.items()]
        json.dump({"device": device, "torch": torch.__version__, "ceilings": limits, "own": list(own.values()), "rivals": rows}, out, indent=1)


main()
