"""Hugging Face's Transformer-XL, mended so that its last release runs."""

import torch
from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

_type_as = torch.Tensor.type_as


def _mended_type_as(self, other=None, dtype=None):
    # modeling_transfo_xl.py of 4.57.6 calls type_as(dtype=...), which torch refuses.
    return self.to(dtype) if dtype is not None else _type_as(self, other)


torch.Tensor.type_as = _mended_type_as


def load(directory):
    """The language model of a checkpoint folder (config.json, model.safetensors)."""
    from safetensors.torch import load_file

    model = TransfoXLLMHeadModel(TransfoXLConfig.from_pretrained(directory))
    missing, unexpected = model.load_state_dict(load_file(f"{directory}/model.safetensors"), strict=False)
    # Tied parameters are stored once; the position frequencies are a buffer.
    missing = [name for name in missing if not name.startswith("crit.out_") and not name.endswith("inv_freq")]
    if missing or unexpected:
        raise SystemExit(f"{directory}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model
