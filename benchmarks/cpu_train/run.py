# SPDX-License-Identifier: Apache-2.0
"""Forja and PyTorch on the CPU, side by side in one run: same model, weights, batches, dtype and threads.

    python run.py --forja build/release/forja --dump build/release/dump_batches --assets DIR [--cases gpt2-4x64-fp32 ...]

Runs of the two alternate; a step time is the median over the steps after the first two of a run, and the table gives the
median over the runs and their range. Peak memory is the process's largest resident set. Needs PyTorch, numpy, safetensors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = {
    "gpt2": ("gpt2-124m", "tokenizers/gpt2/tokenizer.json"),
    "llama": ("llama-100m", "tokenizers/llama2/tokenizer.model"),
}

RUN = """\
name: {name}
output: {work}/{name}
model: {work}/{model}/config.json
init: {{from: {work}/{model}}}
data:
  tokenizer: {tokenizer}
  train: [{{path: {work}/{model}-data}}]
  sequence_length: {seq}
train: {{steps: {steps}, global_batch_size: {batch}, micro_batch_size: {micro}, precision: {dtype}, seed: 1}}
optimizer:
  lr: 3.0e-4
  schedule: {{name: constant, warmup_steps: {warmup}}}
checkpoint: {{every: 0}}
"""


def run(command, **environment):
    """Runs a command; ends the benchmark with its words when it fails."""
    process = subprocess.Popen([str(c) for c in command], env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")


def prepare(args, work, model):
    kind, tokenizer = MODELS[model]
    if not (work / model).exists():
        run([sys.executable, HERE / "make_model.py", kind, work / model])
        run([args.forja, "tokenize", args.assets / "corpora/eltec-en.jsonl", "--tokenizer", args.assets / tokenizer,
             "--out", work / f"{model}-data"])
    return args.assets / tokenizer


def forja(args, work, name, config):
    path = work / f"{name}.yaml"
    path.write_text(config)
    subprocess.run(["rm", "-rf", str(work / name)], check=True)
    run([args.forja, "train", path], OMP_NUM_THREADS=str(args.threads))
    rows = [json.loads(line) for line in (work / name / "metrics.jsonl").read_text().splitlines()]
    rows = [r for r in rows if "loss" in r]
    return {"step_time_s": [r["step_time_s"] for r in rows], "losses": [r["loss"] for r in rows],
            "mfu": [r["mfu"] for r in rows], "peak_rss": rows[-1]["memory_bytes"],
            "peak_flops": json.loads((work / name / "run.json").read_text())["peak_flops"]}


def pytorch(args, work, name, case, compiled):
    out = work / f"{name}-pytorch.json"
    run([sys.executable, HERE / "pytorch_train.py", "--model", work / case["model"], "--tokens", work / f"{name}.bin",
         "--batch", case["batch"], "--seq", case["seq"], "--micro-batch", case["micro"], "--steps", args.steps, "--dtype",
         case["dtype"], "--compile", int(compiled), "--threads", args.threads, "--warmup", args.warmup, "--json", out])
    result = json.loads(out.read_text())
    steps = result["steps"]
    return {"step_time_s": [s["step_time_s"] for s in steps], "losses": [s["loss"] for s in steps],
            "peak_rss": result["peak_memory_bytes"]}


def typical(result):
    return statistics.median(result["step_time_s"][2:])


def measure(args, work, spec):
    model, shape, dtype = spec.split("-")
    batch, seq = map(int, shape.split("x"))
    case = {"model": model, "batch": batch, "seq": seq, "dtype": dtype, "micro": args.micro_batch or batch}
    tokenizer = prepare(args, work, model)
    config = RUN.format(name=spec, work=work, model=model, tokenizer=tokenizer, seq=seq, steps=args.steps, batch=batch,
                        micro=case["micro"], dtype=dtype, warmup=args.warmup)
    (work / f"{spec}.yaml").write_text(config)
    run([args.dump, work / f"{spec}.yaml", args.steps, work / f"{spec}.bin"])
    results = {"forja": [], "eager": [], "compiled": []}
    for _ in range(args.repeats):
        results["forja"].append(forja(args, work, spec, config))
        for kind in args.peers:
            results[kind].append(pytorch(args, work, spec, case, kind == "compiled"))
    tokens = batch * seq
    row = {"case": spec}
    for kind, runs in results.items():
        if not runs:
            continue
        speeds = sorted(tokens / typical(r) for r in runs)
        row[kind] = {"tokens_per_s": statistics.median(speeds), "range": [speeds[0], speeds[-1]],
                     "peak_rss_bytes": max(r["peak_rss"] for r in runs), "losses": runs[-1]["losses"]}
    row["forja"]["mfu"] = statistics.median([statistics.median(r["mfu"][2:]) for r in results["forja"]])
    row["forja"]["matmul_flops"] = statistics.median([r["peak_flops"] for r in results["forja"]])
    best = max((k for k in args.peers), key=lambda k: row[k]["tokens_per_s"])
    row["peer"] = best
    row["ratio"] = row["forja"]["tokens_per_s"] / row[best]["tokens_per_s"]
    row["memory_ratio"] = row["forja"]["peak_rss_bytes"] / row[best]["peak_rss_bytes"]
    row["largest_loss_difference"] = max(abs(a - b) for a, b in zip(row["forja"]["losses"], row[best]["losses"]))
    return row


def table(rows):
    lines = ["| case | Forja tok/s (range) | PyTorch tok/s (range) | ratio | MFU | Forja peak | PyTorch peak | loss difference |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        f, p = r["forja"], r[r["peer"]]
        lines.append(
            f"| {r['case']} | {f['tokens_per_s']:.0f} ({f['range'][0]:.0f}-{f['range'][1]:.0f}) "
            f"| {p['tokens_per_s']:.0f} ({p['range'][0]:.0f}-{p['range'][1]:.0f}) {r['peer']} | {r['ratio']:.2f} "
            f"| {f['mfu'] * 100:.0f} % of {f['matmul_flops'] * 1e-9:.0f} GFLOP/s | {f['peak_rss_bytes'] / 2**30:.2f} GiB "
            f"| {p['peak_rss_bytes'] / 2**30:.2f} GiB | {r['largest_loss_difference']:.1e} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forja", type=Path, required=True)
    parser.add_argument("--dump", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder for models, data and runs; default: a temporary one")
    parser.add_argument("--cases", nargs="+", default=["gpt2-4x64-fp32", "gpt2-4x64-bf16", "gpt2-4x1024-fp32",
                                                       "gpt2-4x1024-bf16", "llama-4x1024-fp32", "llama-4x1024-bf16"])
    parser.add_argument("--peers", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).resolve()
        args.assets, args.forja, args.dump = (p.resolve() for p in (args.assets, args.forja, args.dump))
        work.mkdir(parents=True, exist_ok=True)
        rows = []
        for spec in args.cases:
            rows.append(measure(args, work, spec))
            print(table(rows[-1:]), flush=True)
    print("\n" + table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
