"""Hugging Face's Transformer-XL and XLNet on a GPU, beside what scripts/bench/gpuModels.ts measured.

gpu_models.py OWN.jsonl OUT.md OUT.json [--cpu]: OWN has a line for each case, with the configuration and the shapes. Each is run with
random weights as `eager` and under torch.compile, with fused Adam; inference with weights of the type, training steps of XLNet in bf16 by
autocast over float32 weights. Transformer-XL's classes do not run under autocast: they train with weights in bf16, which is less work. A rival that fails is listed with its error. `--cpu` runs the cases on the CPU, each once: a dry run.
"""

import datetime
import json
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from transformers.utils import logging

CPU = "--cpu" in sys.argv
DEVICE = "cpu" if CPU else "cuda"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RIVALS = ("eager", "compiled")
logging.set_verbosity_error()


def snake(options):
    return {re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name): value for name, value in options.items()}


def make_model(family, config, request, dtype):
    torch.manual_seed(0)
    options = snake(config)
    if family == "xlnet":
        from transformers import XLNetConfig, XLNetLMHeadModel

        options["use_mems_eval"] = options.pop("use_mems_eval", False)
        model = XLNetLMHeadModel(XLNetConfig(**options))
    else:
        # Importing it mends the class.
        import transformer_xl  # noqa: F401
        from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

        model = TransfoXLLMHeadModel(TransfoXLConfig(**options, mem_len=request["memory"]))
    return model.to(device=DEVICE, dtype=torch.float32 if request["kind"] == "xlnetTrain" else dtype)


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
        self.mems = None
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
        self.run = getattr(self, kind)

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

    def segment(self):
        out = self.body(self.ids, mems=self.mems)
        self.mems = [layer.detach() for layer in out.mems]
        return out.last_hidden_state

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


def synchronize():
    if not CPU:
        torch.cuda.synchronize()


def measure(row, rival):
    torch.compiler.reset()
    model, request, dtype = row["model"], row["request"], DTYPES[row["dtype"]]
    step = Step(make_model(model["family"], model["config"], request, dtype), request, dtype, rival == "compiled")
    for _ in range(1 if CPU else 3):
        step.run()
    synchronize()
    before = 0 if CPU else torch.cuda.memory_allocated()
    if not CPU:
        torch.cuda.reset_peak_memory_stats()
    times = []
    until = time.perf_counter() + (0 if CPU else 1)
    while True:
        started = time.perf_counter()
        step.run()
        synchronize()
        times.append(time.perf_counter() - started)
        if CPU or (time.perf_counter() > until and len(times) >= 5):
            break
    peak = 0 if CPU else torch.cuda.max_memory_allocated() - before
    return {"milliseconds": 1000 * statistics.median(times), "peakBytes": peak}


def shapes(request):
    return ", ".join(f"{name} {value}" for name, value in request.items() if name != "kind")


def table(rows):
    lines = [
        "| model | type | pass | xlformers, ms | TFLOP/s | eager | compiled | times eager | times compiled | peak memory, MiB | eager's, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        request, rivals = row["request"], row["rivals"]
        own = row.get("milliseconds")
        times = {name: found.get("milliseconds") for name, found in rivals.items()}
        cells = [f"{times[name]:.2f}" if times[name] else f"failed: {rivals[name]['error'][:60]}" for name in RIVALS]
        ratios = [f"**{times[name] / own:.2f}**" if times[name] and own else "" for name in RIVALS]
        eager_peak = rivals["eager"].get("peakBytes")
        cells = [
            row["model"]["name"],
            row["dtype"],
            f"{request['kind']}: {shapes(request)}",
            f"{own:.2f}" if own else f"failed: {row['error'][:60]}",
            f"{row['flops'] / own / 1e9:.1f}" if own else "",
            *cells,
            *ratios,
            f"{row['peakBytes'] / 2**20:.0f}" if own else "",
            f"{eager_peak / 2**20:.0f}" if eager_peak else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    own_file, markdown_file, json_file = [argument for argument in sys.argv[1:] if argument != "--cpu"]
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(own_file) as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["rivals"] = {}
        for rival in RIVALS:
            try:
                row["rivals"][rival] = measure(row, rival)
            except Exception as error:  # a rival that cannot is a result too
                row["rivals"][rival] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            print(row["model"]["name"], row["dtype"], row["request"], rival, row["rivals"][rival], flush=True)
            if not CPU:
                torch.cuda.empty_cache()
    device = "CPU, dry run" if CPU else torch.cuda.get_device_name()
    with open(markdown_file, "w") as out:
        out.write(
            f"## Whole models on a GPU: {device} ({datetime.date.today().isoformat()})\n\n"
            f"torch {torch.__version__}; random weights. Inference with weights of the type; training steps (forward, backward, clipping, Adam) "
            "in bf16 by mixed precision over float32 weights, but Hugging Face's Transformer-XL, which cannot, with weights in bf16. "
            "TFLOP/s of the operations nobody can avoid. Medians; peak memory beyond weights and optimizer.\n\n" + table(rows) + "\n"
        )
    with open(json_file, "w") as out:
        json.dump({"device": device, "torch": torch.__version__, "rows": rows}, out, indent=1)


main()
