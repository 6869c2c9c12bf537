"""What a layer of Hugging Face's models costs the host in eager PyTorch, forward without gradients: operators that launch a kernel, views,
and microseconds with tensors so small that nothing else takes time (the least of many passes, one thread). On a GPU each launch adds
some 2.5 us to that. Bounds passes that a GPU finishes sooner: decoding, small batches.

    python scripts/reference/eager_calls.py
"""

import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import XLNetConfig, XLNetLMHeadModel
from transformers.models.deprecated.transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

import transformer_xl  # noqa: F401  mends the last release
from eager_passes import VIEWS

LAYERS = (2, 18)


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.kernels = self.views = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in VIEWS:
            self.views += 1
        else:
            self.kernels += 1
        return function(*args, **(kwargs or {}))


def transformer_xl_step(layers):
    """One token behind a memory."""
    config = TransfoXLConfig(
        vocab_size=50, cutoffs=[], div_val=1, tie_projs=[False], n_layer=layers, d_model=8, d_embed=8, n_head=2, d_head=4, d_inner=8,
        mem_len=8, clamp_len=-1,
    )  # fmt: skip
    model = TransfoXLLMHeadModel(config).eval().transformer
    memory = model(torch.randint(0, 50, (1, 8))).mems
    token = torch.randint(0, 50, (1, 1))
    return lambda: model(token, mems=memory)


def xlnet_pass(layers):
    model = XLNetLMHeadModel(XLNetConfig(vocab_size=50, n_layer=layers, d_model=8, n_head=2, d_inner=8)).eval().transformer
    ids = torch.randint(0, 50, (1, 4))
    return lambda: model(ids)


def measure(run):
    run()
    with Calls() as calls:
        run()
    times = []
    for _ in range(300):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return calls.kernels, calls.views, 1e6 * min(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| a layer of | operators with a kernel | views | host, us |\n|---|---|---|---|")
    with torch.no_grad():
        for title, make in (("Transformer-XL, one token behind a memory", transformer_xl_step), ("XLNet", xlnet_pass)):
            few, many = (measure(make(layers)) for layers in LAYERS)
            kernels, views, microseconds = ((b - a) / (LAYERS[1] - LAYERS[0]) for a, b in zip(few, many))
            print(f"| {title} | {kernels:.0f} | {views:.0f} | {microseconds:.0f} |")
