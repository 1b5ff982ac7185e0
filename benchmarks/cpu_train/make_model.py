# SPDX-License-Identifier: Apache-2.0
"""Writes a randomly initialised Hugging Face model directory, and optionally tokens to train it on.

    python make_model.py {gpt2-124m,llama-100m} DIR [--tokens FILE --steps N --batch B --seq T]

Matrices are N(0, 0.02), norms 1, biases 0, all float32. The tokens are skewed random ids, which is
enough to measure speed and to compare two trainers' losses on the same bytes: int32 [steps, batch, seq + 1].
"""

import argparse

import numpy as np
import torch
import transformers

MODELS = {
    "gpt2-124m": ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
                           "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "llama-100m": ("llama", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                             "num_key_value_heads": 4, "intermediate_size": 2048, "vocab_size": 32000,
                             "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}),
}
SEED, STD = 1234, 0.02


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("dir")
    parser.add_argument("--tokens")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=64)
    args = parser.parse_args()

    torch.set_num_threads(1)
    model_type, fields = MODELS[args.model]
    config = transformers.AutoConfig.for_model(model_type, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.ndim >= 2:
                p.normal_(std=STD, generator=generator)
            else:
                p.fill_(1.0 if name.endswith("weight") else 0.0)
    model.save_pretrained(args.dir)
    print(f"{args.dir}: {sum(p.numel() for p in model.parameters()):,} parameters")

    if args.tokens:
        shape = (args.steps, args.batch, args.seq + 1)
        uniform = np.random.default_rng(SEED).random(shape)
        (uniform**4 * config.vocab_size).astype("<i4").tofile(args.tokens)
        print(f"{args.tokens}: int32 {list(shape)}")


if __name__ == "__main__":
    main()
