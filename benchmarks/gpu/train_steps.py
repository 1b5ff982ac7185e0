# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on one GPU, Forja and PyTorch (compiled, SDPA, fused AdamW) side by side in one run.

    python train_steps.py --forja bin/forja --peer pytorch_train.py --text FILE --out DIR

Each case is a model, a sequence length, a micro-batch and the dtype of the optimizer's moments; a step is two micro-batches. Both
compute in bf16. With fp32 moments both keep fp32 weights; with bf16 moments Forja keeps fp32 weights beside them and PyTorch,
which has no such recipe, keeps everything in bf16. No activation is computed again. The rate is the median over the steps after
the first four; the GPU's memory bounds the micro-batch. MFU is Forja's count of FLOPs for both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

MODELS = {
    name: {"model_type": "qwen2", "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
           "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": inner,
           "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied}
    for name, vocabulary, hidden, layers, heads, kv_heads, inner, tied in (
        ("qwen2.5-0.5b", 151936, 896, 24, 14, 2, 4864, True),
        ("qwen2.5-1.5b", 151936, 1536, 28, 12, 2, 8960, True),
        ("qwen2.5-7b", 152064, 3584, 28, 28, 4, 18944, False),
        ("tiny", 1024, 64, 2, 4, 2, 128, True))  # to try this script on a CPU
}
CASES = [  # model, sequence length, micro-batch, moments
    ("qwen2.5-0.5b", 1024, 16, "fp32"),
    ("qwen2.5-0.5b", 4096, 4, "fp32"),
    ("qwen2.5-1.5b", 1024, 16, "fp32"),
    ("qwen2.5-1.5b", 4096, 4, "fp32"),
    ("qwen2.5-7b", 1024, 4, "bf16"),
    ("qwen2.5-7b", 4096, 1, "bf16"),
]
TRIAL = [("tiny", 128, 2, "fp32"), ("tiny", 256, 1, "bf16")]
MICRO_BATCHES, WARM_UP = 2, 4

RUN = """\
name: {name}
output: {out}/{name}
model: {out}/{model}/config.json
data: {{tokenizer: {out}/tokenizer.json, train: [{{path: {out}/data}}], sequence_length: {seq}}}
train: {{steps: {steps}, global_batch_size: {batch}, micro_batch_size: {micro}, precision: bf16, seed: 1, device: {device}}}
optimizer: {{lr: 1.0e-4, state_dtype: {moments}, stochastic_rounding: {stochastic}, schedule: {{name: constant}}}}
checkpoint: {{every: 0}}
"""


def run(command, log):
    with open(log, "w") as f:
        done = subprocess.run([str(c) for c in command], stdout=f, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        print(f"{command[0]} failed ({done.returncode}); the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-5:]))
    return done.returncode == 0


def prepare(args):
    for name, config in MODELS.items():
        (args.out / name).mkdir(exist_ok=True)
        (args.out / name / "config.json").write_text(json.dumps(config))
    text = args.out / "text.txt"
    text.write_text(args.text.read_text() * 40)  # enough for sequences of 4096
    return (run([args.forja, "tokenizer", "train", text, "--vocab-size", 1024, "--out", args.out / "tokenizer.json"],
                args.out / "tokenizer.log") and
            run([args.forja, "tokenize", text, "--tokenizer", args.out / "tokenizer.json", "--out", args.out / "data"],
                args.out / "tokenize.log"))


def forja(args, case):
    model, seq, micro, moments = case
    name = f"{model}-{seq}"
    config = args.out / f"{name}.yaml"
    config.write_text(RUN.format(name=name, out=args.out, device=args.device, model=model, seq=seq, steps=args.steps, batch=micro * MICRO_BATCHES, micro=micro, moments=moments,
                                 stochastic=str(moments == "bf16").lower()))
    subprocess.run(["rm", "-rf", args.out / name], check=True)
    if not run([args.forja, "train", config], args.out / f"{name}-forja.log"):
        return None
    rows = [json.loads(line) for line in (args.out / name / "metrics.jsonl").read_text().splitlines()]
    rows = [r for r in rows if "step_time_s" in r]
    info = json.loads((args.out / name / "run.json").read_text())
    times = {key: statistics.median(r["time"][key] for r in rows[WARM_UP:]) for key in rows[-1]["time"]}
    return {"step_time_s": [r["step_time_s"] for r in rows], "mfu": statistics.median(r["mfu"] for r in rows[WARM_UP:]),
            "memory_bytes": rows[-1]["memory_bytes"], "peak_source": info["peak_source"], "time_s": times,
            "losses": [r["loss"] for r in rows], "revision": info["git_revision"]}


def pytorch(args, case):
    import numpy as np
    model, seq, micro, moments = case
    name = f"{model}-{seq}"
    tokens = args.out / "tokens.bin"
    shape = (args.steps, micro * MICRO_BATCHES, seq + 1)
    np.random.default_rng(1).integers(0, MODELS[model]["vocab_size"], shape, dtype="<i4").tofile(tokens)
    result = args.out / f"{name}-pytorch.json"
    if not run([sys.executable, args.peer, "--model", args.out / model, "--tokens", tokens, "--batch", micro * MICRO_BATCHES, "--seq", seq,
                "--micro-batch", micro, "--steps", args.steps, "--dtype", "bf16" if moments == "fp32" else "bf16_pure",
                "--compile", 1, "--device", args.device, "--threads", os.cpu_count(), "--json", result],
               args.out / f"{name}-pytorch.log"):
        return None
    found = json.loads(result.read_text())
    return {"step_time_s": [s["step_time_s"] for s in found["steps"]], "memory_bytes": found["peak_memory_bytes"],
            "torch": found["torch"]}


def speed(result, tokens):
    times = sorted(result["step_time_s"][WARM_UP:])
    return tokens / statistics.median(times), tokens / times[-1], tokens / times[0]


def row_of(case, ours, theirs):
    model, seq, micro, moments = case
    tokens = micro * MICRO_BATCHES * seq
    row = {"model": model, "sequence_length": seq, "micro_batch_size": micro, "moments": moments, "forja": ours, "pytorch": theirs}
    if ours:
        row["forja_tokens_per_s"] = speed(ours, tokens)
    if theirs:
        row["pytorch_tokens_per_s"] = speed(theirs, tokens)
    if ours and theirs:
        row["ratio"] = row["forja_tokens_per_s"][0] / row["pytorch_tokens_per_s"][0]
    return row


def table(rows):
    lines = ["| model | T | micro-batch | moments | Forja tok/s (range) | MFU | PyTorch tok/s (range) | ratio | memory | PyTorch's |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        def rate(key):
            return "{:.0f} ({:.0f}-{:.0f})".format(*r[key]) if key in r else "failed"
        def memory(key):
            return f"{r[key]['memory_bytes'] / 2**30:.1f} GiB" if r[key] else "-"
        mfu = f"{r['forja']['mfu'] * 100:.1f} %" if r["forja"] else "-"
        ratio = f"{r['ratio']:.2f}" if "ratio" in r else "-"
        lines.append(f"| {r['model']} | {r['sequence_length']} | {r['micro_batch_size']} | {r['moments']} | "
                     f"{rate('forja_tokens_per_s')} | {mfu} | {rate('pytorch_tokens_per_s')} | {ratio} | "
                     f"{memory('forja')} | {memory('pytorch')} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("forja", "peer", "text", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tiny models, to try the script")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--cases", type=int, nargs="+", help="numbers of cases from 0 on; default: all")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    cases = CASES if args.device == "cuda" else TRIAL
    if not prepare(args):
        sys.exit(1)
    rows = []
    for i in args.cases or range(len(cases)):
        rows.append(row_of(cases[i], forja(args, cases[i]), pytorch(args, cases[i])))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
        (args.out / "train_steps.json").write_text(json.dumps(rows, indent=1) + "\n")
    (args.out / "train_steps.md").write_text(table(rows) + "\n")
    sys.exit(any("ratio" not in r for r in rows))


if __name__ == "__main__":
    main()
