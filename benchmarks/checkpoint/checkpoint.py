# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a real run: how long training waits for each, and bandwidths beside the disk's own.

    python benchmarks/checkpoint/checkpoint.py build/release/forja --folder DISK --model configs/models/gpt2-124m.yaml

Trains with checkpoint.async false and true by turns, each for a few steps from the beginning, then once more from the
last checkpoint with files that are not in memory. Between two of these, the disk alone: 8 MiB a call of as many bytes,
from and to memory that is there already, past the page cache (as dd with bs=8M, oflag=direct conv=fsync, or iflag=direct,
whose other end costs nothing). Prints medians and ranges. Standard library only.
"""

import argparse
import json
import mmap
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SAVED = re.compile(r"step (\d+): checkpoint saved in ([\d.]+) s, for which training waited ([\d.]+) s")
LOADED = re.compile(r"; read in ([\d.]+) s")


def show(values, unit=""):
    if not values:
        return "none"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.3g}{unit} ({low:.3g} to {high:.3g}, n {len(values)})"


def forget(paths):
    """Takes files out of the system's cache, as far as it allows."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


BLOCK = 8 << 20


def open_direct(path, flags):
    try:
        return os.open(path, flags | os.O_DIRECT, 0o644)
    except OSError:
        return os.open(path, flags, 0o644)


def disk_alone(scratch, shard):
    """MB/s of writing as many random bytes in whole blocks, and of reading the shard's."""
    num_blocks = shard.stat().st_size // BLOCK
    memory = mmap.mmap(-1, 16 * BLOCK)
    for at in range(0, len(memory), BLOCK):
        memory[at : at + BLOCK] = os.urandom(BLOCK)
    views = [memoryview(memory)[at : at + BLOCK] for at in range(0, len(memory), BLOCK)]
    rates = []
    for path, flags in ((scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), (shard, os.O_RDONLY)):
        file = open_direct(path, flags)
        begin = time.monotonic()
        for i in range(num_blocks):
            move = os.preadv if flags == os.O_RDONLY else os.pwritev
            if move(file, [views[i % len(views)]], i * BLOCK) != BLOCK:
                raise RuntimeError(f"{path}: less than a block")
        os.fsync(file)
        rates.append(num_blocks * BLOCK / (time.monotonic() - begin) / 1e6)
        os.close(file)
    scratch.unlink()
    return rates


def prepare(forja, folder):
    draw = random.Random(1)
    words = "the quick fox and lazy dog over jumps el veloz kiwi come de noche".split()
    text = "\n%\n".join(" ".join(draw.choices(words, k=200)) for _ in range(2000))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    for arguments in (
        ["tokenizer", "train", "text.txt", "--vocab-size", "300", "--out", "tokenizer.json"],
        ["tokenize", "text.txt", "--tokenizer", "tokenizer.json", "--out", "data"],
    ):
        command = [forja, *arguments, "--document-separator", "%"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def train(forja, folder, model, mode, steps, every):
    config = {
        "name": "run",
        "model": str(model),
        "data": {"tokenizer": "tokenizer.json", "train": "data", "sequence_length": 64},
        "train": {"steps": steps, "global_batch_size": 1, "device": "cpu"},
        "optimizer": {"schedule": {"name": "constant"}},
        "checkpoint": {"every": every, "keep_last": 1, "async": mode},
    }
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in config.items()]
    (folder / "run.yaml").write_text("".join(lines), encoding="utf-8")
    command = [forja, "train", "run.yaml", f"output=run-{mode}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    print(f"async {mode}: {SAVED.findall(done.stderr)}", file=sys.stderr, flush=True)
    log = folder / f"run-{mode}/metrics.jsonl"
    times = [json.loads(line).get("step_time_s") for line in log.read_text().splitlines()]
    saves = [(int(step), float(took), float(wait)) for step, took, wait in SAVED.findall(done.stderr)]
    return saves, [t for t in times if t], done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("forja", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="on the disk to be measured; removed at the end")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    forja, folder = options.forja.resolve(), options.folder.resolve() / "checkpoint-benchmark"
    folder.mkdir(parents=True)
    try:
        measure(forja, folder, options)
    finally:
        shutil.rmtree(folder)


def measure(forja, folder, options):
    prepare(forja, folder)
    found = {mode: {"wait": [], "took": [], "step": []} for mode in ("false", "true")}
    bandwidth = {"write": [], "disk write": [], "read": [], "disk read": []}
    for _ in range(options.repeats):
        for mode, values in found.items():
            shutil.rmtree(folder / f"run-{mode}", ignore_errors=True)
            saves, steps, _ = train(forja, folder, options.model.resolve(), mode, options.steps, options.every)
            # The last save of a run waits for the disk in both modes.
            values["wait"] += [wait for step, _, wait in saves if step < options.steps]
            values["took"] += [took for step, took, _ in saves if step < options.steps]
            values["step"] += steps[1:]
            forget(folder.glob("run-*/checkpoints/*/*.safetensors"))
            shards = list((folder / f"run-{mode}/checkpoints/latest").glob("*.safetensors"))
            size = sum(path.stat().st_size for path in shards)
            if mode == "false":
                bandwidth["write"] += [size / took / 1e6 for _, took, _ in saves]
            *_, text = train(forja, folder, options.model.resolve(), mode, options.steps + 1, 0)
            bandwidth["read"].append(size / float(LOADED.search(text).group(1)) / 1e6)
            write, read = disk_alone(folder / "scratch", shards[0])
            bandwidth["disk write"].append(write)
            bandwidth["disk read"].append(read)
            print({name: [round(v) for v in values if v] for name, values in bandwidth.items()}, file=sys.stderr, flush=True)
    print(f"checkpoint of {size / 1e9:.2f} GB every {options.every} steps")
    for mode, values in found.items():
        between = options.every * statistics.median(values["step"])
        wait = statistics.median(values["wait"])
        print(f"checkpoint.async={mode}")
        print(f"  training waits      {show(values['wait'], ' s')}: {100 * wait / (between + wait):.2g} % of the time between saves")
        print(f"  until it is whole   {show(values['took'], ' s')}")
        print(f"  a step              {show(values['step'], ' s')}")
    for name, values in bandwidth.items():
        print(f"{name:<10} MB/s       {show(values)}")


if __name__ == "__main__":
    main()
