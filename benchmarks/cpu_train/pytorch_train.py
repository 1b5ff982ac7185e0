# SPDX-License-Identifier: Apache-2.0
"""Trains a GPT-2, Llama or Qwen2 with PyTorch: the peer of `forja train` in speed, and the reference of its loss curve.

    python pytorch_train.py --model DIR --tokens FILE --batch 4 --seq 64 --steps 10 --threads 2 --json out.json

DIR is a Hugging Face directory (config.json, and model.safetensors, without which weights are random). FILE holds raw little-endian int32 [steps, batch, seq + 1]:
step s reads row s, and inputs and targets are that row without its last and first column. The update is AdamW at a
constant rate after a linear warmup, decay on tensors of two or more dims only, after clipping the global norm.

--dtype  fp32: all in float32;  bf16: float32 weights and optimizer, matmuls in bfloat16 (autocast);
         bf16_pure: weights and optimizer state in bfloat16 too (saves memory, loses small updates).

The peer is tuned: fused AdamW, fused attention, and a heap that keeps its pages (in huge pages where the system allows it),
without which every step pays for faulting the same gigabyte in again.
"""

import argparse
import ctypes
import json
import math
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Norm(nn.Module):
    """LayerNorm with a bias, or RMSNorm without."""

    def __init__(self, width, eps, bias):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        if self.bias is not None:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Gpt2Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, inner = c["n_embd"], c.get("n_inner") or 4 * c["n_embd"]
        self.heads = c["n_head"]
        self.gelu = {"gelu_new": "tanh", "gelu": "none"}[c["activation_function"]]
        self.ln_1, self.ln_2 = (Norm(width, c["layer_norm_epsilon"], bias=True) for _ in range(2))
        self.c_attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.mlp_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, rope):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).flatten(2))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate=self.gelu))


class LlamaBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, inner, eps = c["hidden_size"], c["intermediate_size"], c["rms_norm_eps"]
        self.head_dim = c.get("head_dim") or width // c["num_attention_heads"]
        q_width, kv_width = (n * self.head_dim for n in (c["num_attention_heads"], c["num_key_value_heads"]))
        self.input_layernorm, self.post_attention_layernorm = (Norm(width, eps, bias=False) for _ in range(2))
        self.split = [q_width, kv_width, kv_width]
        self.qkv = nn.Linear(width, sum(self.split), bias=c["model_type"] == "qwen2")
        self.o_proj = nn.Linear(q_width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x, rope):
        q, k, v = (t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
                   for t in self.qkv(self.input_layernorm(x)).split(self.split, -1))
        y = F.scaled_dot_product_attention(rotate(q, rope), rotate(k, rope), v, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(y.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.post_attention_layernorm(x)).chunk(2, -1)
        return x + self.down_proj(F.silu(gate) * up)


def rotate(x, rope):
    cos, sin = rope
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.is_gpt2 = c["model_type"] == "gpt2"
        if self.is_gpt2:
            width, layers, eps = c["n_embd"], c["n_layer"], c["layer_norm_epsilon"]
            self.positions = nn.Embedding(c["n_positions"], width)
        else:
            rope = c.get("rope_parameters") or {"rope_theta": c.get("rope_theta", 10000.0)} | (c.get("rope_scaling") or {})
            if c["model_type"] not in ("llama", "qwen2") or rope.get("rope_type", rope.get("type", "default")) != "default":
                raise SystemExit("only gpt2, and llama and qwen2 with the default RoPE, are written here")
            width, layers, eps = c["hidden_size"], c["num_hidden_layers"], c["rms_norm_eps"]
        self.embedding = nn.Embedding(c["vocab_size"], width)
        self.blocks = nn.ModuleList((Gpt2Block if self.is_gpt2 else LlamaBlock)(c) for _ in range(layers))
        self.norm = Norm(width, eps, bias=self.is_gpt2)
        self.head = nn.Linear(width, c["vocab_size"], bias=False)
        if is_tied(c):
            self.head.weight = self.embedding.weight
        self.rope_theta = None if self.is_gpt2 else rope["rope_theta"]

    def logits(self, ids):
        x, rope = self.embedding(ids), None
        place = torch.arange(ids.shape[1], device=ids.device)
        if self.is_gpt2:
            x = x + self.positions(place)
        else:
            dim = self.blocks[0].head_dim
            angle = torch.outer(place.float(), self.rope_theta ** (-torch.arange(0, dim, 2, device=ids.device) / dim))
            rope = angle.cos(), angle.sin()
        for block in self.blocks:
            x = block(x, rope)
        return self.head(self.norm(x))

    def forward(self, ids, targets):
        """The sum, not the mean, of the targets' losses, so that micro-batches add up."""
        return F.cross_entropy(self.logits(ids).flatten(0, 1).float(), targets.flatten(), reduction="sum")


def is_tied(config):
    return config.get("tie_word_embeddings", config["model_type"] == "gpt2")


def random_model(config):
    model = Model(config)
    for name, p in model.named_parameters():
        if p.ndim >= 2:
            nn.init.normal_(p, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(p)
    if is_tied(config):
        model.head.weight = model.embedding.weight
    return model


def load(folder):
    """Builds the model and fills it from Hugging Face's names; GPT-2 stores its matrices transposed."""
    config = json.loads((Path(folder) / "config.json").read_text())
    if not (Path(folder) / "model.safetensors").exists():
        return random_model(config)
    tensors = load_file(Path(folder) / "model.safetensors")
    model, state = Model(config), {}
    if config["model_type"] == "gpt2":
        tensors = {name.removeprefix("transformer."): t for name, t in tensors.items()}
        names = {"wte": "embedding", "wpe": "positions", "ln_f": "norm", "lm_head": "head", "h": "blocks"}
        for name, t in tensors.items():
            first, rest = name.split(".", 1)
            rest = rest.replace("attn.c_proj", "attn_proj").replace("mlp.c_proj", "mlp_proj")
            rest = rest.replace("attn.c_attn", "c_attn").replace("mlp.c_fc", "c_fc")
            state[f"{names[first]}.{rest}"] = t.T if first == "h" and t.ndim == 2 else t
    else:
        state = {"embedding.weight": tensors.pop("model.embed_tokens.weight"),
                 "norm.weight": tensors.pop("model.norm.weight")}
        if "lm_head.weight" in tensors:
            state["head.weight"] = tensors.pop("lm_head.weight")
        for layer in range(config["num_hidden_layers"]):
            old, new = f"model.layers.{layer}.", f"blocks.{layer}."
            def fuse(kind, *parts):
                return torch.cat([tensors.pop(f"{old}{part}.{kind}") for part in parts])
            for kind in ("weight", "bias") if config["model_type"] == "qwen2" else ("weight",):
                state[f"{new}qkv.{kind}"] = fuse(kind, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
            state[f"{new}gate_up.weight"] = fuse("weight", "mlp.gate_proj", "mlp.up_proj")
        state |= {name.replace("model.layers", "blocks").replace("self_attn.", "").replace("mlp.", ""): t
                  for name, t in tensors.items()}
    if is_tied(config):
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state)
    return model


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seq", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--micro-batch", type=int, help="sequences at once; default: the whole batch")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "bf16_pure"), default="fp32")
    parser.add_argument("--compile", type=int, choices=(0, 1), default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=0, help="steps of linear warmup")
    parser.add_argument("--betas", type=float, nargs=2, default=(0.9, 0.95))
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--clip-norm", type=float, default=1.0, help="0: no clipping")
    parser.add_argument("--state", type=Path, help="file to save to every 10 steps, and to go on from where it exists")
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    args.micro_batch = args.micro_batch or args.batch
    if args.batch % args.micro_batch:
        parser.error(f"--micro-batch {args.micro_batch} does not divide --batch {args.batch}")
    return args


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    tokens = np.fromfile(args.tokens, "<i4")
    step_tokens = args.batch * (args.seq + 1)
    if len(tokens) < args.steps * step_tokens:
        raise SystemExit(f"{args.tokens}: {len(tokens)} tokens, but {args.steps} steps x {args.batch} sequences x "
                         f"({args.seq} + 1) = {args.steps * step_tokens} are needed")
    tokens = torch.from_numpy(tokens[:args.steps * step_tokens].astype(np.int64)).view(args.steps, args.batch, -1)

    torch.set_float32_matmul_precision("highest")
    with torch.device(args.device):
        model = load(args.model)
    model.to(args.device)
    if args.dtype == "bf16_pure":
        model.bfloat16()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": args.weight_decay},
         {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}],
        lr=args.lr, betas=tuple(args.betas), eps=args.eps, fused=True)
    loss_sum = torch.compile(model) if args.compile else model
    targets_per_step = args.batch * args.seq

    records = []
    if args.state and args.state.exists():
        saved = torch.load(args.state)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        records = saved["records"]
    for step in range(len(records), args.steps):
        begin = time.perf_counter()
        lr = args.lr * min(1.0, (step + 1) / max(1, args.warmup))
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = 0.0
        for rows in tokens[step].split(args.micro_batch):
            rows = rows.to(args.device)
            ids, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
            with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
                part = loss_sum(ids, targets) / targets_per_step
            part.backward()
            loss += part.detach()
        norm = nn.utils.clip_grad_norm_(parameters, args.clip_norm or math.inf).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = float(loss)  # waits for a GPU
        seconds = time.perf_counter() - begin
        records.append({"step": step, "loss": loss, "lr": lr, "grad_norm": norm, "step_time_s": seconds,
                        "tokens_per_s": targets_per_step / seconds})
        print(f"step {step:5}  loss {loss:.6f}  grad_norm {norm:.4f}  {seconds:.3f} s  "
              f"{targets_per_step / seconds:.1f} tokens/s", flush=True)
        if args.state and len(records) % 10 == 0:
            beside = args.state.with_suffix(".new")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "records": records}, beside)
            beside.replace(args.state)

    on_gpu = args.device == "cuda"
    peak = torch.cuda.max_memory_reserved() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory {peak / 2**20:.0f} MiB")
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "model", "state", "tokens")}
    Path(args.json).write_text(json.dumps({
        "format_version": 1, "torch": torch.__version__, "parameters": sum(p.numel() for p in parameters),
        "settings": settings, "peak_memory_bytes": peak, "steps": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
