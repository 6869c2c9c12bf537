"""What a layer of eager PyTorch moves in a training step besides products and attention scores: counterpart of scripts/bench/passes.ts.

Every operator that the dispatcher sees is counted with the elements of its tensors, read and written, for models of two layers less those
of one; 2 bytes an element, 1 for dropout masks. Left out: views, matrix products, and what works on scores [batch, heads, query, key],
which docs/benchmarks.md counts by themselves. Dropout is taken as the one operator that it is on CUDA (native_dropout).

    python scripts/reference/eager_passes.py
"""

from collections import Counter

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import XLNetConfig, XLNetLMHeadModel
from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

import transformer_xl  # noqa: F401  mends the last release

BATCH, LENGTH, D_MODEL, D_INNER, HEADS, TARGETS = 3, 22, 40, 160, 2, 4
ROWS = BATCH * LENGTH * D_MODEL
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear")
VIEWS = (
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "split", "unsqueeze", "squeeze", "as_strided",
    "detach", "alias", "narrow", "unbind", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
)  # fmt: skip


def dropout(x, p=0.5, training=True, inplace=False):
    return torch.ops.aten.native_dropout(x, p, True)[0] if training and p > 0 else x


F.dropout = dropout


class Passes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.passes = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in VIEWS or name in PRODUCTS:
            return result
        unread = name in ("copy_", "zero_", "fill_", "new_zeros", "zeros_like")  # the first argument
        given = tensors(list(args) + list((kwargs or {}).values()))
        read = [x for x in given[1 if unread else 0 :] if relevant(x)]
        written = [x for x in tensors([result]) if relevant(x)]
        if any(of_scores(x) for x in read + written):
            return result
        if read or written:
            self.passes[(name, moved(read), moved(written))] += 1
        return result


def tensors(values):
    flat = []
    for value in values:
        if isinstance(value, torch.Tensor):
            flat.append(value)
        elif isinstance(value, (list, tuple)):
            flat += tensors(value)
    return flat


def relevant(x):
    """Activations: their rows are those of the batch, whatever the order of the axes. Weights and statistics have none."""
    rows = any(BATCH * length in (*x.shape, x.numel() // D_MODEL, x.numel() // D_INNER) for length in (LENGTH, TARGETS))
    return x.numel() % D_MODEL == 0 and x.numel() >= BATCH * TARGETS * D_MODEL and (BATCH in x.shape or rows)


def of_scores(x):
    return x.dim() == 4 and sum(size >= LENGTH and size not in (D_MODEL, D_INNER) for size in x.shape) >= 2


def moved(given):
    return sum(x.numel() * (1 if x.dtype == torch.bool else 2) for x in given) / ROWS


def report(title, make, step):
    counts = []
    for layers in (2, 1):
        torch.manual_seed(0)
        model = make(layers).train()
        forward, backward = Passes(), Passes()
        loss = step(model, forward)
        with backward:
            loss.backward()
        counts.append((forward.passes, backward.passes))
    for direction, two, one in zip(("forward", "backward"), *counts):
        print(f"\n{title}, {direction}\n| operator | passes | read | written |\n|---|---|---|---|")
        total = 0
        for (name, read, written), count in two.items():
            count -= one[(name, read, written)]
            total += max(count, 0) * (read + written)
            if count > 0:
                print(f"| {name} | {count} | {read:.1f} | {written:.1f} |")
        print(f"| sum | | | {total:.1f} |")


def transformer_xl_model(layers):
    return TransfoXLLMHeadModel(
        TransfoXLConfig(
            vocab_size=50, cutoffs=[], div_val=1, tie_projs=[False], n_layer=layers, d_model=D_MODEL, d_embed=D_MODEL, n_head=HEADS,
            d_head=D_MODEL // HEADS, d_inner=D_INNER, dropout=0.1, dropatt=0.1, mem_len=LENGTH, clamp_len=-1,
        )
    )  # fmt: skip


def transformer_xl_step(model, passes):
    ids = torch.randint(0, 50, (BATCH, LENGTH))
    mems = [x.detach() for x in model.transformer(ids).mems]
    with passes:
        hidden = model.transformer(ids, mems=mems).last_hidden_state
    return hidden.sum()


def xlnet_model(layers):
    return XLNetLMHeadModel(
        XLNetConfig(
            vocab_size=50, n_layer=layers, d_model=D_MODEL, n_head=HEADS, d_inner=D_INNER, ff_activation="gelu", dropout=0.1,
            use_mems_eval=False, use_mems_train=False,
        )
    )  # fmt: skip


def xlnet_step(model, passes, streams=1):
    ids = torch.randint(0, 50, (BATCH, LENGTH))
    more = {}
    if streams == 2:
        more["perm_mask"] = torch.ones(LENGTH, LENGTH).tril().repeat(BATCH, 1, 1)
        more["target_mapping"] = torch.eye(LENGTH)[:TARGETS].repeat(BATCH, 1, 1)
    with passes:
        out = model.transformer(ids, **more)
    return out.last_hidden_state.sum()


if __name__ == "__main__":
    report("Transformer-XL", transformer_xl_model, transformer_xl_step)
    report("XLNet", xlnet_model, xlnet_step)
    report("XLNet, two streams", xlnet_model, lambda model, passes: xlnet_step(model, passes, 2))
