# SPDX-License-Identifier: Apache-2.0
"""Makes the adapters of this folder and what PEFT trains them to, in float64, on the models of make_reference.py.

    python make_lora_reference.py [CASE...]       # default: all; see README.md for what a case holds
"""

import logging
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from make_reference import BATCH, LENGTH, VOCAB, build, in_float64, loss_of, train
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
# name -> (base, LoraConfig)
CASES = {
    "lora_llama": ("llama", {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"}),
    "lora_qwen2": ("qwen2", {"r": 3, "lora_alpha": 8, "use_rslora": True,
                             "target_modules": ["q_proj", "v_proj", "mlp.down_proj", "gate_proj"]}),
    "lora_gpt2": ("gpt2", {"r": 4, "lora_alpha": 4, "target_modules": ["c_attn", "mlp.c_proj"],
                           "fan_in_fan_out": True}),
}


def trained_only(model):
    """What `train` looks at: the adapters, under the names in PEFT's files."""
    class Trained:
        def __call__(self, **arguments):
            return model(**arguments)

        def named_parameters(self):
            for name, p in model.named_parameters():
                if p.requires_grad:
                    yield name.replace(".default.", "."), p
    return Trained()


def make(case):
    base, fields = CASES[case]
    generator = torch.Generator().manual_seed(4321 + list(CASES).index(case))
    config = transformers.AutoConfig.from_pretrained(HERE / base)
    state = load_file(HERE / base / "model.safetensors")
    state |= {k: v for k, v in build(config).state_dict().items() if k not in state and "lm_head" not in k}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state[next(k for k in state if "wte" in k or "embed_tokens" in k)]
    lora = peft.LoraConfig(task_type="CAUSAL_LM", **fields)
    model = peft.get_peft_model(build(config, state, torch.float32), lora, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.requires_grad:
                p.normal_(std=0.2, generator=generator)
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = "../" + base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    ids = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
    labels = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
    labels[0, :5] = labels[1, 11] = -100
    adapters = {k: v.clone() for k, v in model.state_dict().items() if "lora_" in k}
    with in_float64():
        exact = peft.get_peft_model(build(config, state, torch.float64), lora, autocast_adapter_dtype=False).double()
        exact.load_state_dict(adapters, strict=False)
        out = {n: t.clone() for n, t in train(trained_only(exact), ids, labels).items()}
        exact.load_state_dict(adapters, strict=False)
        merged = exact.merge_and_unload()
        with torch.no_grad():
            off = (loss_of(merged, ids, labels)[0] - out["logits"]).abs().max()
            plain = (loss_of(build(config, state, torch.float64), ids, labels)[0] - out["logits"]).abs().max()
        assert off < 1e-10 and plain > 1e-2, (case, off, plain)
        names = {f"merged.{n}": p for n, p in merged.named_parameters()}
    out |= {n: p.detach() for n, p in names.items() if "proj" in n or "attn.c_" in n or "mlp.c_" in n}
    print(f"{case:12} loss {out['loss'].item():.6f} -> {out['losses'][-1].item():.6f}")
    out = {n: t.to(torch.float32).contiguous() for n, t in out.items()} | {"input_ids": ids, "labels": labels}
    save_file(out, folder / "reference.safetensors", {"format_version": "1"})


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or CASES:
        make(name)
