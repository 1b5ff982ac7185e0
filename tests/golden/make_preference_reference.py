# SPDX-License-Identifier: Apache-2.0
"""Makes preference.safetensors: DPO and IPO of three pairs in float64, by the model and adapter of lora_llama.

    python make_preference_reference.py

Each answer is run alone, so that packing, masks and positions are tested too. The losses are written from the papers; `check` holds
the gradient against a finite difference.
"""

import logging
from pathlib import Path

import peft
import torch
import torch.nn.functional as F
import transformers
from make_reference import VOCAB, build, in_float64
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
BETA = 0.3
# Of each pair: the tokens of the prompt, of the chosen and of the rejected answer.
PAIRS = [(5, 4, 7), (3, 9, 2), (6, 1, 1)]


def log_probability(model, ids, prompt):
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    each = F.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])[:, 0]
    return each[prompt - 1:].sum()


def loss_of(kind, model, pairs):
    """The mean loss, and the rewards of the chosen and the rejected answers."""
    losses, rewards = [], [[], []]
    for (prompt, *lengths), answers in pairs:
        ratios = []
        for ids in answers:
            with torch.no_grad(), model.disable_adapter():
                reference = log_probability(model, ids, prompt)
            ratios.append(log_probability(model, ids, prompt) - reference)
        for side in range(2):
            rewards[side].append(BETA * ratios[side].detach())
        if kind == "dpo":
            losses.append(-F.logsigmoid(BETA * (ratios[0] - ratios[1])))
        else:
            losses.append((ratios[0] / lengths[0] - ratios[1] / lengths[1] - 1 / (2 * BETA)) ** 2)
    return torch.stack(losses).mean(), [torch.stack(r).mean() for r in rewards]


def make():
    generator = torch.Generator().manual_seed(99)
    out, pairs = {}, []
    for i, sizes in enumerate(PAIRS):
        start = torch.randint(VOCAB, (sizes[0],), generator=generator)
        answers = [torch.cat([start, torch.randint(VOCAB, (n,), generator=generator)]) for n in sizes[1:]]
        pairs.append((sizes, answers))
        out |= {f"chosen.{i}": answers[0], f"rejected.{i}": answers[1], f"prompt.{i}": torch.tensor([sizes[0]])}
    config = transformers.AutoConfig.from_pretrained(HERE / "llama")
    state = load_file(HERE / "llama/model.safetensors")
    lora = peft.PeftConfig.from_pretrained(HERE / "lora_llama")
    lora.inference_mode = False
    adapters = {n.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): t
                for n, t in load_file(HERE / "lora_llama/adapter_model.safetensors").items()}
    with in_float64():
        base = build(config, state, torch.float64)
        model = peft.get_peft_model(base, lora, autocast_adapter_dtype=False).double()
        assert not model.load_state_dict(adapters, strict=False).unexpected_keys
        trained = {n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad}
        for kind in ("dpo", "ipo"):
            model.zero_grad()
            loss, rewards = loss_of(kind, model, pairs)
            loss.backward()
            slope, h, ends = 0.0, 1e-6, []
            directions = {n: torch.randn(p.shape, generator=generator) for n, p in trained.items()}
            for n, p in trained.items():
                out[f"{kind}.grad.{n}"] = p.grad.float()
                slope += (p.grad * directions[n]).sum()
            with torch.no_grad():
                for shift in (h, -2 * h, h):
                    for n, p in trained.items():
                        p.add_(directions[n], alpha=shift)
                    ends.append(loss_of(kind, model, pairs)[0])
            assert abs((ends[0] - ends[1]) / (2 * h) - slope) < 1e-6 * abs(slope), kind
            out[f"{kind}.loss"] = torch.stack([loss.detach(), *rewards]).float()
            print(kind, out[f"{kind}.loss"].tolist())
    save_file({n: t.contiguous() for n, t in out.items()}, HERE / "preference.safetensors", {"format_version": "1"})


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    make()
