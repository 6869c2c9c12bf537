"""What Hugging Face's XLNet generates, greedily, with the logits of every step: test/fixtures/hf-generation.

    python scripts/reference/xlnet_generation.py

Runs the unmodified `generate` of transformers (4.57.6) in float32 on the weights of test/fixtures/hf/xlnet-lm-plain. Writes case.json
(options, prompts, tokens) and golden.safetensors (`<case>.logits` [steps, texts, vocab]).
"""

import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import XLNetLMHeadModel

fixtures = pathlib.Path(__file__).parents[2] / "test" / "fixtures"
source = "hf/xlnet-lm-plain"
steps = 12
# mem_len null: the memory keeps everything, as in the published checkpoints.
cases = {
    "mems": {"prompts": [[11, 42, 7, 99, 3, 58]], "use_mems": True, "mem_len": None},
    "no-mems": {"prompts": [[11, 42, 7, 99, 3, 58]], "use_mems": False, "mem_len": None},
    "default": {"prompts": [[5, 60, 21]], "use_mems": None, "mem_len": None},
    "one-token": {"prompts": [[77]], "use_mems": True, "mem_len": None},
    "short-memory": {"prompts": [[9, 8, 70, 61, 52, 43, 34, 25]], "use_mems": True, "mem_len": 6},
    "batch": {"prompts": [[1, 90, 17, 33], [64, 2, 2, 81], [29, 50, 12, 12]], "use_mems": True, "mem_len": None},
}


def scaled(model):
    """Spreads the logits of the small random model, so that the tokens do not hang on rounding; the test does the same."""
    with torch.no_grad():
        model.lm_loss.weight.mul_(20)
        for layer in model.transformer.layer:
            for name in "qkvor":
                getattr(layer.rel_attn, name).mul_(4)
    return model


def main():
    torch.manual_seed(0)
    report, tensors = {}, {}
    for name, case in cases.items():
        model = XLNetLMHeadModel.from_pretrained(fixtures / source, mem_len=case["mem_len"]).eval()
        scaled(model)
        given = {} if case["use_mems"] is None else {"use_mems": case["use_mems"]}
        out = model.generate(
            torch.tensor(case["prompts"]),
            do_sample=False,
            max_new_tokens=steps,
            eos_token_id=None,
            pad_token_id=5,
            output_logits=True,
            return_dict_in_generate=True,
            **given,
        )
        logits = torch.stack(out.logits)
        margin = logits.topk(2).values.diff(dim=-1).abs().min()
        length = len(case["prompts"][0])
        report[name] = {**case, "tokens": out.sequences[:, length:].tolist()}
        tensors[f"{name}.logits"] = logits.contiguous()
        print(f"{name}: {report[name]['tokens']}, smallest margin {margin:.3g}")
    target = fixtures / "hf-generation"
    target.mkdir(exist_ok=True)
    header = {"source": source, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    (target / "case.json").write_text(json.dumps({**header, "steps": steps, "cases": report}, indent=1) + "\n")
    save_file(tensors, target / "golden.safetensors")


main()
