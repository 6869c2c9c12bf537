"""The rival in the benchmarks: runs cases on request, so that both sides can take turns.

Reads one JSON case per line, answers with one JSON line {"milliseconds": ...}.
  {"kind": "load", "directory": ...}
  {"kind": "train", "batch", "target", "memory"}    one step: forward, backward, clip, Adam
  {"kind": "forward", "batch", "target", "memory"}  one segment without gradients, memory carried
  {"kind": "attention", "length", "heads", "headDim"}
  {"kind": "xlnetForward", "batch", "length"}          hidden states without gradients
  {"kind": "xlnetTrain", "batch", "length", "targets"}  one two-stream step: forward, backward, clip, Adam

Arguments: threads, mode (eager; kept-pages: an environment of the caller's; compiled, onnxruntime: XLNet's forward passes only).
"""

import json
import os
import resource
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

from transformers import XLNetLMHeadModel

from transformer_xl import load

threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
mode = sys.argv[2] if len(sys.argv) > 2 else "eager"
torch.set_num_threads(threads)
state = {}


def segment(model, ids, mems):
    # Hugging Face's head shifts labels inside; the original training predicts every position, as measured on both sides.
    out = model.transformer(ids, mems=mems)
    return out.last_hidden_state, out.mems


def prepare(case):
    key = json.dumps(case, sort_keys=True)
    if state.get("key") == key:
        return
    torch.manual_seed(0)
    state["key"] = key
    model = state["model"]
    model.transformer.reset_memory_length(case["memory"])
    state["ids"] = torch.randint(0, model.config.vocab_size, (case["batch"], case["target"]))
    state["labels"] = torch.randint(0, model.config.vocab_size, (case["batch"], case["target"] + 1))
    state["mems"] = None
    state["optimizer"] = None


def train(case):
    prepare(case)
    model = state["model"]
    model.train()
    if state["optimizer"] is None:
        state["optimizer"] = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    started = time.perf_counter()
    state["optimizer"].zero_grad()
    hidden, state["mems"] = segment(model, state["ids"], state["mems"])
    # ProjectedAdaptiveLogSoftmax drops the last hidden state and the first label; pad so that every position counts.
    padded = F.pad(hidden, (0, 0, 0, 1))
    losses = model.crit(padded, state["labels"])
    losses.mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    state["optimizer"].step()
    return time.perf_counter() - started


@torch.no_grad()
def forward(case):
    prepare(case)
    model = state["model"]
    model.eval()
    started = time.perf_counter()
    hidden, state["mems"] = segment(model, state["ids"], state["mems"])
    return time.perf_counter() - started


@torch.no_grad()
def attention(case):
    length, heads, size = case["length"], case["heads"], case["headDim"]
    if state.get("attention") != length:
        torch.manual_seed(0)
        state["attention"] = length
        state["qkv"] = [torch.randn(length, 1, heads, size) for _ in range(3)]
        state["r"] = torch.randn(length, heads, size)
        state["bias"] = [torch.randn(heads, size) for _ in range(2)]
        state["mask"] = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    q, k, v = state["qkv"]
    u, w = state["bias"]
    started = time.perf_counter()
    # As RelPartialLearnableMultiHeadAttn.forward.
    content = torch.einsum("ibnd,jbnd->ijbn", q + u, k)
    position = torch.einsum("ibnd,jnd->ijbn", q + w, state["r"])
    zeros = torch.zeros((position.size(0), 1, *position.size()[2:]))
    position = torch.cat([zeros, position], 1).view(position.size(1) + 1, position.size(0), *position.size()[2:])[1:]
    position = position.view(length, length, 1, heads)
    score = (content + position).mul_(size**-0.5)
    score = score.float().masked_fill(state["mask"][:, :, None, None], torch.finfo(score.dtype).min)
    out = torch.einsum("ijbn,jbnd->ibnd", F.softmax(score, dim=1), v)
    return time.perf_counter() - started


def xlnet_body(body, ids):
    """Ids to hidden states, as this process's mode computes them."""
    plain = lambda ids: body(ids, use_mems=False)
    if mode == "compiled":
        graph = torch.compile(body, dynamic=False)
        return lambda ids: graph(ids, use_mems=False)
    if mode != "onnxruntime":
        return plain
    import onnxruntime

    class LastHiddenState(torch.nn.Module):
        def forward(self, ids):
            return plain(ids)[0]

    with tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "xlnet.onnx")
        wrapper = LastHiddenState()
        wrapper.body = body
        # The exporter restores the mode that it finds.
        wrapper.eval()
        torch.onnx.export(wrapper, (ids,), file, input_names=["ids"], opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    result = session.run(None, {"ids": ids.numpy()})[0]
    assert (torch.from_numpy(result) - plain(ids)[0]).abs().max() < 1e-3
    return lambda ids: session.run(None, {"ids": ids.numpy()})


@torch.no_grad()
def xlnet_forward(case):
    key = json.dumps(case, sort_keys=True)
    if state.get("key") != key:
        torch.manual_seed(0)
        state["key"] = key
        state["model"].eval()
        state["ids"] = torch.randint(0, state["model"].config.vocab_size, (case["batch"], case["length"]))
        state["body"] = xlnet_body(state["model"].transformer, state["ids"])
    started = time.perf_counter()
    state["body"](state["ids"])
    return time.perf_counter() - started


def xlnet_train(case):
    model = state["model"]
    batch, length, targets = case["batch"], case["length"], case["targets"]
    key = json.dumps(case, sort_keys=True)
    if state.get("key") != key:
        torch.manual_seed(0)
        state["key"] = key
        vocabulary = model.config.vocab_size
        # Every sixth token is predicted, in the order of their positions; a token sees those that are not.
        positions = torch.arange(targets) * 6
        rank = torch.full((length,), -1)
        rank[positions] = positions
        hidden = (rank[None, :] >= rank.clamp(min=0)[:, None]).float()
        mapping = torch.zeros(targets, length)
        mapping[torch.arange(targets), positions] = 1
        state["inputs"] = {
            "input_ids": torch.randint(0, vocabulary, (batch, length)),
            "perm_mask": hidden.expand(batch, -1, -1).contiguous(),
            "target_mapping": mapping.expand(batch, -1, -1).contiguous(),
            "labels": torch.randint(0, vocabulary, (batch, targets)),
        }
        state["optimizer"] = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        model.train()
    started = time.perf_counter()
    state["optimizer"].zero_grad()
    model(**state["inputs"], use_mems=False).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    state["optimizer"].step()
    return time.perf_counter() - started


def load_any(directory):
    with open(f"{directory}/config.json") as file:
        is_xlnet = json.load(file)["model_type"] == "xlnet"
    return XLNetLMHeadModel.from_pretrained(directory) if is_xlnet else load(directory)


KINDS = {
    "train": train,
    "forward": forward,
    "attention": attention,
    "xlnetForward": xlnet_forward,
    "xlnetTrain": xlnet_train,
}


def run(case):
    if case["kind"] == "load":
        state["model"] = load_any(case["directory"])
        return 0.0
    return KINDS[case["kind"]](case)


print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = run(json.loads(line))
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"milliseconds": seconds * 1000, "peakRiseBytes": rise * 1024}), flush=True)
