# SPDX-License-Identifier: Apache-2.0
"""Makes the reference cases of this folder: tiny models, run and trained by transformers in float64.

    python make_reference.py [CASE...]       # default: all; see README.md for what a case holds

Weights are drawn in float32, saved, and only then widened, so that model.safetensors is exactly the starting point.
transformers computes norms, softmax and RoPE in float32 whatever the model's dtype; `in_float64` undoes that, and
`check` proves it with a finite difference that would drown in float32 rounding.
"""

import contextlib
import copy
import logging
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
BATCH, LENGTH, VOCAB, STEPS = 2, 24, 97, 5
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8}
WEIGHT_DECAY = 0.1  # on tensors of two or more dims

GPT2 = {"vocab_size": VOCAB, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0,
        "eos_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
LLAMA = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
# Heads of 12 (hence 6 frequencies), so that a scaling has frequencies on both sides of each of its thresholds.
ROPE = LLAMA | {"hidden_size": 48, "intermediate_size": 56}


def rope(kind, theta=10000.0, **parameters):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **parameters}}


# name -> (model type, config, and a change of the config that must change the logits)
CASES = {
    "gpt2": ("gpt2", GPT2, {"activation_function": "gelu"}),
    "gpt2_erf": ("gpt2", GPT2 | {"activation_function": "gelu", "tie_word_embeddings": False, "n_inner": 80},
                 {"activation_function": "gelu_new"}),
    "llama": ("llama", LLAMA, {"rms_norm_eps": 1e-2}),
    "llama3_rope": ("llama", ROPE | {"tie_word_embeddings": True, "max_position_embeddings": 256}
                    | rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                           original_max_position_embeddings=32), rope("default")),
    "llama_linear_rope": ("llama", ROPE | rope("linear", factor=4.0), rope("default")),
    "llama_yarn_rope": ("llama", ROPE | {"max_position_embeddings": 256}
                        | rope("yarn", factor=4.0, beta_fast=3.0, beta_slow=0.5,
                               original_max_position_embeddings=64), rope("default")),
    "qwen2": ("qwen2", LLAMA | {"tie_word_embeddings": True}, rope("default", theta=500.0)),
    "qwen3": ("qwen3", LLAMA | {"head_dim": 16, "tie_word_embeddings": False}, {"rms_norm_eps": 1e-2}),
    "mistral": ("mistral", LLAMA | {"sliding_window": 7}, {"sliding_window": 8}),
}


@contextlib.contextmanager
def in_float64():
    """Makes `torch.float32`, `torch.float` and `tensor.float()` mean float64, inside transformers' code too."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved
        torch.set_default_dtype(torch.float32)


def build(config, state=None, dtype=None):
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    if state is not None:
        model = model.to(dtype)
        model.load_state_dict(state)
    return model


def randomize(model, generator):
    """Large enough that every term matters: a transposed matrix or a forgotten bias cannot pass for rounding."""
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            p.normal_(std=0.2, generator=generator)
            if "norm" in name or "ln_" in name:
                p.add_(1.0 if name.endswith("weight") else 0.0)


def loss_of(model, ids, labels):
    logits = model(input_ids=ids, use_cache=False).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def train(model, ids, labels):
    """The first step's logits and gradients, and the weights after STEPS steps."""
    parameters = dict(model.named_parameters())
    decayed = [p for p in parameters.values() if p.ndim >= 2]
    others = [p for p in parameters.values() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                                   {"params": others, "weight_decay": 0.0}], foreach=False, **ADAMW)
    out, losses = {}, []
    for step in range(STEPS):
        logits, loss = loss_of(model, ids, labels)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        if step == 0:
            assert logits.dtype == torch.float64
            out |= {f"grad.{name}": p.grad.clone() for name, p in parameters.items()}
            norm = torch.stack([g.square().sum() for g in out.values()]).sum().sqrt()
            out |= {"logits": logits.detach(), "loss": loss.detach()[None], "grad_norm": norm[None]}
        optimizer.step()
    out |= {f"step{STEPS}.{name}": p.detach() for name, p in parameters.items()}
    return out | {"losses": torch.stack(losses)}


def check(case, config, change, state, ids, labels, out):
    """The reference against itself: precision, stock transformers, and that the feature under test is felt."""
    generator = torch.Generator().manual_seed(7)
    with in_float64():
        model, h, ends = build(config, state, torch.float64), 1e-6, []
        directions = {n: torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()}
        with torch.no_grad():
            for shift in (h, -2 * h):
                for name, p in model.named_parameters():
                    p.add_(directions[name], alpha=shift)
                ends.append(loss_of(model, ids, labels)[1])
        slope = sum((out[f"grad.{n}"] * d).sum() for n, d in directions.items())
        finite = (ends[0] - ends[1]) / (2 * h)
        changed = copy.deepcopy(config)
        for key, value in change.items():
            setattr(changed, key, value)
        with torch.no_grad():
            felt = (loss_of(build(changed, state, torch.float64), ids, labels)[0] - out["logits"]).abs().max()
    with torch.no_grad():
        stock = (loss_of(build(config, state, torch.float32), ids, labels)[0] - out["logits"]).abs().max()
    assert abs(finite - slope) < 1e-7 * abs(slope), (case, finite, slope)
    assert 0 < stock < 1e-4, (case, stock)
    assert felt > 1e-3, (case, felt)
    print(f"{case:18} loss {out['loss'].item():.6f} -> {out['losses'][-1].item():.6f}  grad_norm "
          f"{out['grad_norm'].item():.4f}  float32 off by {stock:.1e}  {next(iter(change))} changes {felt:.1e}")


def make(case):
    model_type, fields, change = CASES[case]
    generator = torch.Generator().manual_seed(1234 + list(CASES).index(case))
    config = transformers.AutoConfig.for_model(model_type, **fields)
    folder = HERE / case
    model = build(config)
    randomize(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    state = model.state_dict()

    ids = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
    labels = torch.randint(VOCAB, (BATCH, LENGTH), generator=generator)
    labels[:, :-1] = ids[:, 1:]
    labels[0, :5] = labels[1, 11] = labels[1, -1] = -100
    with in_float64():
        out = train(build(config, state, torch.float64), ids, labels)
    check(case, config, change, state, ids, labels, out)
    out = {name: t.to(torch.float32).contiguous() for name, t in out.items()} | {"input_ids": ids, "labels": labels}
    save_file(out, folder / "reference.safetensors", {"format_version": "1"})


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or CASES:
        make(name)
