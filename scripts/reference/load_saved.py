"""Loads folders that `model.save` or a training run wrote with Hugging Face's own classes, and compares outputs where asked to.

  python scripts/reference/load_saved.py FOLDER [FOLDER ...]

Each folder must load with no weight missing, unexpected or of another shape; an `expected.json` beside config.json, {"ids": [[...]],
"values": [...]}, holds the last hidden states that this package computed, flattened, which must agree within 1e-4.
"""

import json
import os
import sys

import torch
import transformers
from transformers.models.deprecated import transfo_xl

import transformer_xl  # noqa: F401  mends the last release of Transformer-XL


def load(folder):
    with open(os.path.join(folder, "config.json")) as file:
        name = json.load(file)["architectures"][0]
    cls = getattr(transformers, name, None) or getattr(transfo_xl, name)
    model, report = cls.from_pretrained(folder, output_loading_info=True)
    # Position frequencies are computed; tied weights are stored once.
    missing = [key for key in report["missing_keys"] if not key.endswith("inv_freq") and not key.startswith("crit.out_")]
    problems = [*missing, *report["unexpected_keys"], *report["mismatched_keys"]]
    if problems:
        raise SystemExit(f"{folder}: {name} does not load: {problems}")
    return name, model.eval()


@torch.no_grad()
def compare(folder, model):
    with open(os.path.join(folder, "expected.json")) as file:
        expected = json.load(file)
    body = getattr(model, "transformer", model)
    states = body(torch.tensor(expected["ids"])).last_hidden_state
    difference = (states.flatten() - torch.tensor(expected["values"])).abs().max().item()
    if difference > 1e-4:
        raise SystemExit(f"{folder}: hidden states differ by {difference}")
    return f"hidden states within {difference:.1e}"


for folder in sys.argv[1:]:
    name, model = load(folder)
    note = compare(folder, model) if os.path.exists(os.path.join(folder, "expected.json")) else "nothing to compare"
    print(f"{folder}: {name} loads; {note}")
