# SPDX-License-Identifier: Apache-2.0
"""How one step scales over the cores of this machine: one rank of one thread, then two, in every way of dividing the work.

    python run.py --forja build/release/forja --assets DIR [--model configs/models/gpt2.yaml] [--json F]

Data parallelism doubles the batch (weak scaling), tensor and pipeline parallelism divide the same work twice as large, so
that every rank has as much to do: each row is tokens/s against twice those of one rank. Runs alternate; a figure is the
median over the steps after the first two, over all repeats, beside the range over the repeats. Standard library only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "1 rank": (1, []),
    "2 ranks, dp": (2, []),
    "2 ranks, dp, zero 1": (2, ["parallel.zero=1"]),
    "2 ranks, dp, zero 3": (2, ["parallel.zero=3"]),
    "2 ranks, tp": (2, ["parallel.tp=2"]),
    "2 ranks, pp 1f1b": (2, ["parallel.pp=2"]),
    "2 ranks, pp zb_h1": (2, ["parallel.pp=2", "parallel.schedule=zb_h1"]),
}


def run(command, **environment):
    done = subprocess.run([str(c) for c in command], env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")


def measure(args, work, name):
    ranks, overrides = CASES[name]
    out = work / "run"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    command = ["mpirun", "-n", ranks, "--oversubscribe", args.forja, "train", work / "run.yaml", f"output={out}",
               f"train.global_batch_size={args.micro_batches * ranks}", *overrides]
    run(command, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [r for r in rows if "loss" in r][2:]
    waits = {k: statistics.median(r["time"][k] / r["step_time_s"] for r in rows) for k in ("wait_tp", "wait_pp", "wait_dp")}
    return statistics.median(r["tokens_per_s"] for r in rows), waits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forja", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=ROOT / "configs/models/gpt2.yaml")
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--micro-batches", type=int, default=8, help="of one rank; of one sequence each")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.forja = args.forja.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tokenizer = args.assets.resolve() / "tokenizers/gpt2/tokenizer.json"
        run([args.forja, "tokenize", args.assets / "corpora/eltec-en.jsonl", "--tokenizer", tokenizer, "--out", work / "data"])
        (work / "run.yaml").write_text(
            f"model: {args.model.resolve()}\ndata: {{tokenizer: {tokenizer}, train: {work}/data, "
            f"sequence_length: {args.sequence_length}}}\n"
            f"train: {{steps: {args.steps}, micro_batch_size: 1}}\ncheckpoint: {{every: 0}}\n")
        speeds = {name: [] for name in args.cases}
        waits = {}
        for _ in range(args.repeats):
            for name in args.cases:
                speed, waits[name] = measure(args, work, name)
                speeds[name].append(speed)
    alone = statistics.median(speeds["1 rank"])
    print("| layout | tokens/s (range) | of as many times one rank | waiting for tp / pp / dp |\n| --- | --- | --- | --- |")
    rows = []
    for name, values in speeds.items():
        middle, ranks = statistics.median(values), CASES[name][0]
        wait = " / ".join(f"{100 * waits[name][k]:.1f} %" for k in ("wait_tp", "wait_pp", "wait_dp"))
        print(f"| {name} | {middle:.0f} ({min(values):.0f}-{max(values):.0f}) | {100 * middle / (ranks * alone):.1f} % | {wait} |")
        rows.append({"layout": name, "tokens_per_s": values, "efficiency": middle / (ranks * alone), "waits": waits[name]})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
