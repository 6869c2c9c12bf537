"""What eager PyTorch moves for each attention score in Hugging Face's layers, forward and backward, products included: where
docs/benchmarks.md has its bytes for each of batch x heads x queries x keys from. See eager_passes.py for the rest of a layer.

Heads are narrow here, so that every tensor as large as the scores is one of scores, of whatever shape. 2 bytes an element, 1 for
dropout masks; of a tensor that is broadcast, what is stored; of `index_select` and `index_add`, the selected elements.

    python scripts/reference/eager_scores.py
"""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import XLNetConfig
from transformers.models.deprecated.transfo_xl.modeling_transfo_xl import RelPartialLearnableMultiHeadAttn
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

import transformer_xl  # noqa: F401  mends the last release
from eager_passes import VIEWS, tensors

BATCH, LENGTH, HEADS, D_HEAD = 2, 96, 16, 2
D_MODEL = HEADS * D_HEAD


def stored(x):
    return min(x.numel(), x.untyped_storage().nbytes() // x.element_size())


class ScorePasses(TorchDispatchMode):
    """Reads and writes of tensors with half as many elements as there are scores, or more."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores
        self.passes = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in VIEWS:
            return result
        unread = name in ("copy_", "zero_", "fill_", "new_zeros", "zeros_like")  # the first argument
        given = tensors(list(args) + list((kwargs or {}).values()))[1 if unread else 0 :]
        written = tensors([result])
        if name == "index_select":
            given = written
        if name in ("index_add", "index_add_"):  # (self, dim, index, source): as much of self is read and written as there is of source
            given = [given[-1], given[-1]]
            written = given[:1]
        moved = [sum(self.moved(x) for x in each) for each in (given, written)]
        if any(moved):
            self.passes[(name, *moved)] += 1
        return result

    def moved(self, x):
        return stored(x) * (1 if x.dtype == torch.bool else 2) / self.scores if stored(x) >= self.scores / 2 else 0


def count(scores, run):
    """Passes of both directions, and their bytes."""
    torch.manual_seed(0)
    forward, backward = ScorePasses(scores), ScorePasses(scores)
    with forward:
        out = run()
    loss = sum(each.sum() for each in out)
    with backward:
        loss.backward()
    return [(found, sum(times * (read + written) for (_, read, written), times in found.items())) for found in (forward.passes, backward.passes)]


def report(title, scores, run):
    print(f"\n{title}")
    for direction, (passes, total) in zip(("forward", "backward"), count(scores, run)):
        print(f"\n| {direction} | times | read | written |\n|---|---|---|---|")
        for (name, read, written), times in passes.items():
            print(f"| {name} | {times} | {read:.2f} | {written:.2f} |")
        print(f"| bytes a score | | | {total:.1f} |")


def transformer_xl_attention(dropout):
    layer = RelPartialLearnableMultiHeadAttn(HEADS, D_MODEL, D_HEAD, 0.1, dropatt=dropout).train()
    word = torch.randn(LENGTH, BATCH, D_MODEL, requires_grad=True)
    memory = torch.randn(LENGTH, BATCH, D_MODEL)
    positions = torch.randn(2 * LENGTH, 1, D_MODEL)
    mask = torch.ones(LENGTH, 2 * LENGTH).triu(1 + LENGTH).bool()[:, :, None]
    return lambda: layer(word, positions, attn_mask=mask, mems=memory)[:1]


def xlnet_attention(dropout, segments, masked, streams=1):
    layer = XLNetRelativeAttention(XLNetConfig(d_model=D_MODEL, n_head=HEADS, d_inner=8, dropout=dropout)).train()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    content = torch.randn(LENGTH, BATCH, D_MODEL, requires_grad=True)
    query = torch.randn(LENGTH, BATCH, D_MODEL, requires_grad=True) if streams == 2 else None
    positions = torch.randn(2 * LENGTH, BATCH, D_MODEL)
    pairs = torch.nn.functional.one_hot(torch.randint(0, 2, (LENGTH, LENGTH, BATCH)), 2).float() if segments else None
    mask = torch.ones(LENGTH, LENGTH).triu(1)[:, :, None, None].repeat(1, 1, BATCH, 1) if masked else None
    return lambda: [x for x in layer(content, query, mask, mask, positions, pairs)[:2] if x is not None]


def main():
    causal = BATCH * HEADS * LENGTH * 2 * LENGTH
    square = BATCH * HEADS * LENGTH * LENGTH
    report("Transformer-XL with memory, dropout", causal, transformer_xl_attention(0.1))
    report("XLNet, one stream with mask, segments, dropout", square, xlnet_attention(0.1, True, True))
    print("\n| bytes a score | forward | backward |\n|---|---|---|")
    for title, scores, run in (
        ("Transformer-XL", causal, transformer_xl_attention(0)),
        ("Transformer-XL, dropout", causal, transformer_xl_attention(0.1)),
        ("XLNet", square, xlnet_attention(0, False, False)),
        ("XLNet, segments", square, xlnet_attention(0, True, False)),
        ("XLNet, mask, segments", square, xlnet_attention(0, True, True)),
        ("XLNet, mask, dropout", square, xlnet_attention(0.1, False, True)),
        ("XLNet, mask, segments, dropout", square, xlnet_attention(0.1, True, True)),
        ("XLNet, mask, segments, dropout, both streams, for each score of one", square, xlnet_attention(0.1, True, True, 2)),
    ):
        (_, forward), (_, backward) = count(scores, run)
        print(f"| {title} | {forward:.1f} | {backward:.1f} |")


if __name__ == "__main__":
    main()
