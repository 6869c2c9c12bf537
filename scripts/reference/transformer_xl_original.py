"""A checkpoint as the original Transformer-XL repository would leave it, and what Hugging Face makes of the same weights.

    python transformer_xl_original.py <output folder> <zip | legacy> <hf | nvidia names>

Writes config.json, model.pt (a state dict: no prefix, shared position biases, cluster rows from the last to the first) and expected.json with
token ids and log-probabilities. To compare by hand: `TransformerXLLMHeadModel.fromPretrained(folder)`, with `mems: 'zeros'`, which is how
Hugging Face's class begins.
"""

import json
import os
import sys

import torch
import transformer_xl  # noqa: F401 mends Hugging Face's class
from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

folder, form, names = sys.argv[1:4]
torch.manual_seed(1)
config = TransfoXLConfig(
    vocab_size=60, cutoffs=[10, 25, 40], d_model=32, d_embed=32, n_head=4, d_head=8, d_inner=48, div_val=2, n_layer=2, mem_len=6,
    clamp_len=5, same_length=True, untie_r=False, tie_projs=[False, True, True, True], init_std=0.3,
)  # fmt: skip
model = TransfoXLLMHeadModel(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
ids = torch.randint(0, 60, (2, 9))
with torch.no_grad():
    scores = model(ids, return_dict=True).prediction_scores

state = {}
for name, tensor in model.state_dict().items():
    if ".dec_attn.r_w_bias" in name or ".dec_attn.r_r_bias" in name:
        continue
    name = name.removeprefix("transformer.")
    if name in ("crit.cluster_weight", "crit.cluster_bias"):
        tensor = tensor.flip(0)
    if names == "nvidia":
        # Output weights are a plain list there, tied ones of the embedding; tied projections are entries of another list.
        if name.startswith("crit.out_layers.") and name.endswith(".weight"):
            continue
        if name.startswith("crit.out_layers."):
            name = f"crit.out_layers_biases.{name.split('.')[2]}"
        if name.startswith("crit.out_projs.") and config.tie_projs[int(name.split(".")[2])]:
            name = f"crit.shared_out_projs.{name.split('.')[2]}"
    state[name] = tensor.clone()

os.makedirs(folder, exist_ok=True)
torch.save({"model_state": state} if names == "nvidia" else state, f"{folder}/model.pt", _use_new_zipfile_serialization=form == "zip")
# NVIDIA's preset shows each query one key more under same_length than Hugging Face's class does.
settings = config.to_dict() | {"xlformers_compatibility": "pytorch-original"}
with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
    json.dump(settings, file, indent=1, default=str)
with open(f"{folder}/expected.json", "w", encoding="utf-8") as file:
    json.dump({"ids": ids.tolist(), "scores": scores.flatten().tolist()}, file)
