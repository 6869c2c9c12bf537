"""Transformer-XL and XLNet in PyTorch on a GPU, beside what scripts/bench/gpuModels.ts measured (gpu_measure.py: the arguments).

OWN has a line for each case, with the configuration and the shapes. Each is run with random weights as `eager`; those that say so under
torch.compile too, with fused Adam. XLNet is the class of transformers (4.57 or 5), Transformer-XL transformer_xl_model.py, which does what
transformers 4.57 did. Inference with weights of the type, training steps of XLNet in bf16 by autocast over float32 weights. Transformer-XL
does not run under autocast: it trains with weights in bf16, which is less work.
"""

import datetime
import json
import re
import statistics
import time

import torch
import torch.nn.functional as F
import transformers

import transformer_xl_model
from gpu_measure import (
    ARGUMENTS, CPU, DEVICE, DTYPES, NEEDED, RATES, Failures, attempt_alone, ceilings, ceilings_text, compile_ahead, device_name, rates,
    seconds_left, synchronize, write,
)  # fmt: skip

SHORT_NAMES = {"float32": "f32", "bfloat16": "bf16"}
RIVALS = ("eager", "compiled")
# Rival, type, lengths or what else there is: in the order in which they are measured.
STAGES = (
    ("eager", "bfloat16", False),
    ("eager", "float32", False),
    ("eager", "bfloat16", True),
    ("compiled", "bfloat16", False),
    ("eager", "float32", True),
    ("compiled", "float32", False),
)
transformers.utils.logging.set_verbosity_error()


def snake(options):
    return {re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name): value for name, value in options.items()}


def make_model(family, config, request, dtype):
    torch.manual_seed(0)
    options = snake(config)
    with torch.device(DEVICE):
        if family == "xlnet":
            model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**{**options, "mem_len": request.get("memory")}))
        else:
            model = transformer_xl_model.LanguageModel(transformer_xl_model.Config(**options, mem_len=request["memory"]))
    return model.to(dtype=torch.float32 if request["kind"] == "xlnetTrain" else dtype)


def random_ids(vocabulary, *shape):
    """Small ids more often: the logarithm is uniform, as on the other side."""
    return ((vocabulary + 1) ** torch.rand(*shape, dtype=torch.float64) - 1).floor().long().clamp(max=vocabulary - 1).to(DEVICE)


class Step:
    """One thing to measure, by a call."""

    def __init__(self, model, request, dtype, compiled):
        self.model, self.request, self.dtype = model, request, dtype
        kind = request["kind"]
        body = model.transformer
        self.body = torch.compile(body, dynamic=False) if compiled else body
        vocabulary = model.config.vocab_size
        batch = request["batch"]
        rows = request.get("target", request.get("length", 1))
        self.ids = random_ids(vocabulary, batch, rows)
        # Given from the first step on, so that one graph does for all.
        self.mems = None if "xlnet" in kind else body.init_mems(batch)
        if kind in ("train", "xlnetTrain"):
            model.train()
            self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        else:
            model.eval()
        if kind in ("train", "evaluate"):
            # ProjectedAdaptiveLogSoftmax drops the last hidden state and the first label; one more of each, so that all count.
            self.labels = random_ids(vocabulary, batch, rows + 1)
        if kind == "xlnetTrain":
            self.prepare_permutation(vocabulary, batch, rows, request["targets"])
        if kind == "xlnetDecode":
            self.prepare_decoding(vocabulary, batch, request["memory"])

    def run(self):
        getattr(self, self.request["kind"])()

    def prepare_permutation(self, vocabulary, batch, length, targets):
        # Every sixth token is predicted, in the order of their positions; a token sees those that are not.
        positions = torch.arange(targets) * 6
        rank = torch.full((length,), -1)
        rank[positions] = positions
        hidden = (rank[None, :] >= rank.clamp(min=0)[:, None]).float()
        mapping = torch.zeros(targets, length)
        mapping[torch.arange(targets), positions] = 1
        self.permutation = {
            "perm_mask": hidden.expand(batch, -1, -1).contiguous().to(DEVICE),
            "target_mapping": mapping.expand(batch, -1, -1).contiguous().to(DEVICE),
        }
        self.labels = random_ids(vocabulary, batch, targets)

    def prepare_decoding(self, vocabulary, batch, memory):
        """As prepare_inputs_for_generation of transformers 4.57: the two newest tokens and a dummy behind `memory` less these two."""
        self.ids = random_ids(vocabulary, batch, 3)
        config = self.model.config
        self.mems = [torch.randn(memory - 2, batch, config.d_model, device=DEVICE, dtype=self.dtype) for _ in range(config.n_layer)]
        hidden, mapping = torch.zeros(batch, 3, 3, device=DEVICE), torch.zeros(batch, 1, 3, device=DEVICE)
        hidden[:, :, -1] = 1
        mapping[:, 0, -1] = 1
        self.permutation = {"perm_mask": hidden, "target_mapping": mapping}

    def segment(self):
        hidden, mems = self.body(self.ids, self.mems)
        self.mems = [layer.detach() for layer in mems] if mems is not None else None
        return hidden

    @torch.no_grad()
    def forward(self):
        self.segment()

    @torch.no_grad()
    def evaluate(self):
        self.model.crit(F.pad(self.segment(), (0, 0, 0, 1)), self.labels).mean().item()

    @torch.no_grad()
    def decode(self):
        self.model.crit(self.segment(), None)

    @torch.no_grad()
    def xlnetForward(self):
        self.body(self.ids, use_mems=False)

    @torch.no_grad()
    def xlnetDecode(self):
        found = self.body(self.ids, mems=self.mems, use_mems=True, **self.permutation)
        self.mems = [layer[:-2] for layer in found.mems]
        self.model.lm_loss(found.last_hidden_state)

    def update(self, loss):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()

    def train(self):
        self.update(self.model.crit(F.pad(self.segment(), (0, 0, 0, 1)), self.labels).mean())

    def xlnetTrain(self):
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = self.body(self.ids, use_mems=False, **self.permutation).last_hidden_state
            scores = self.model.lm_loss(hidden)
            loss = F.cross_entropy(scores.view(-1, scores.shape[-1]).float(), self.labels.view(-1))
        self.update(loss)


def make_step(row, rival):
    model, request, dtype = row["model"], row["request"], DTYPES[SHORT_NAMES[row["dtype"]]]
    return Step(make_model(model["family"], model["config"], request, dtype), request, dtype, rival == "compiled")


def compile_step(row):
    make_step(row, "compiled").run()


def measure(row, rival):
    step = make_step(row, rival)
    for _ in range(2 if CPU else 4):
        step.run()
    synchronize()
    before = 0 if CPU else torch.cuda.memory_allocated()
    if not CPU:
        torch.cuda.reset_peak_memory_stats()
    times = []
    until = time.perf_counter() + (0 if CPU else 0.5)
    while True:
        started = time.perf_counter()
        step.run()
        synchronize()
        times.append(time.perf_counter() - started)
        if CPU or (time.perf_counter() > until and len(times) >= 5):
            break
    peak = 0 if CPU else torch.cuda.max_memory_allocated() - before
    return {"milliseconds": 1000 * statistics.median(times), "peakBytes": peak}


def layers(row):
    return row["model"]["config"]["nLayer"] * (2 if "rain" in row["request"]["kind"] else 1)


def shapes(request):
    return ", ".join(f"{name} {value}" for name, value in request.items() if name != "kind")


def table(rows, limits):
    lines = [
        f"| model | type | pass | xlformers, ms | {RATES} | eager | compiled | times eager | times compiled | peak memory, MiB | eager's, MiB |",
        "|---" * 14 + "|",
    ]
    failures, missing = Failures(), 0
    for row in rows:
        request, rivals = row["request"], row["rivals"]
        own = row.get("milliseconds")
        times = {name: found.get("milliseconds") for name, found in rivals.items()}
        cells = []
        for name in RIVALS:
            found = rivals.get(name)
            missing += not found and (name == "eager" or row["compiled"])
            cells.append("" if not found else failures.cell(found["error"]) if "error" in found else f"{times[name]:.2f}")
        missing += "skipped" in row
        eager_peak = rivals.get("eager", {}).get("peakBytes")
        cells = [
            row["model"]["name"],
            row["dtype"],
            f"{request['kind']}: {shapes(request)}",
            f"{own:.2f}" if own else failures.cell(row["error"]) if "error" in row else "",
            *(rates(row["flops"], row["leastBytes"], own / 1000, limits, SHORT_NAMES[row["dtype"]]) if own else [""] * 4),
            *cells,
            *(f"**{times[name] / own:.2f}**" if times.get(name) and own else "" for name in RIVALS),
            f"{row['peakBytes'] / 2**20:.0f}" if own else "",
            f"{eager_peak / 2**20:.0f}" if eager_peak else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    empty = f"\nNot measured, as the time was up: {missing} cells, which are empty.\n" if missing else ""
    return "\n".join(lines) + "\n\nA single text of growing length is not compiled.\n" + failures.notes() + empty


def publish(rows, limits):
    write(
        ARGUMENTS.markdown,
        f"## Whole models on a GPU: {device_name()} ({datetime.date.today().isoformat()})\n\n"
        f"torch {torch.__version__}, transformers {transformers.__version__}; random weights. Inference with weights of the type; training "
        "steps (forward, backward, clipping, Adam) in bf16 by mixed precision over float32 weights, but PyTorch's Transformer-XL, which "
        "cannot, with weights in bf16; it does what transformers 4.57 did (scripts/reference/transformer_xl_model.py). Operations and "
        "bytes are those nobody can avoid: weights once, in training 28 bytes of each; in decoding keys, values and positions. "
        f"{ceilings_text(limits)} Medians; peak memory beyond weights and optimizer.\n\n" + table(rows, limits),
    )
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    write(ARGUMENTS.json, json.dumps({"device": device_name(), **versions, "ceilings": limits, "rows": rows}, indent=1))


def main():
    with open(ARGUMENTS.own) as lines:
        rows = [{**json.loads(line), "rivals": {}} for line in lines]
    limits = ceilings()
    for rival, dtype, lengths in STAGES:
        group = [row for row in rows if row["dtype"] == dtype and row["compiled"] != lengths and "skipped" not in row]
        if rival == "compiled" and seconds_left() > NEEDED:
            # The longest to compile first; few beside each other, as all of them are on the device.
            compile_ahead(compile_step, [(row,) for row in sorted(group, key=layers, reverse=True)], 2 if CPU else 8)
        for row in group:
            if seconds_left() > NEEDED:
                row["rivals"][rival] = attempt_alone(measure, row, rival)
                print(row["model"]["name"], row["dtype"], row["request"], rival, row["rivals"][rival], flush=True)
                publish(rows, limits)
    publish(rows, limits)
    failed = [f"xlformers failed: {row['model']['name']} {row['dtype']} {row['request']}: {row['error']}" for row in rows if "error" in row]
    if failed or not rows:
        raise SystemExit("\n".join(failed or ["xlformers measured nothing"]))


if __name__ == "__main__":
    main()
