# SPDX-License-Identifier: Apache-2.0
"""Models of every family from transformers to Forja and from Forja to transformers: the same logits.

    cmake --build build/release --target forja dump_logits
    VENV/bin/python benchmarks/parity/run.py [--assets FOLDER] [--binaries build/release] [--older PYTHON] [--out FILE]

VENV holds torch, transformers and safetensors; PYTHON is an interpreter with another transformers, which is to load the
same models. They are those of tests/golden, tiny and random. "Truth" is transformers in float64 on the same
weights; an error is ||found - truth|| / ||truth|| over all logits.

  in    a model that transformers saved, read by Forja from its directory and as the checkpoint `forja convert` made of
        it (bitwise the same logits), and `forja convert` back: bitwise the same tensors, and in transformers
        bitwise the same logits
  out   a model of the same shape that Forja trained, in transformers as `forja convert` wrote it

Computing in fp32 must be within 1e-5 of the truth, whatever the dtype of the weights, which are exact. Computing in
bf16 has no bound of its own: two right programs that round at other places differ from the truth alike, so Forja's
error may be twice that of transformers in bf16 on the same weights.
"""

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))
from make_reference import CASES, build, in_float64, randomize  # noqa: E402

BATCH, LENGTH, VOCAB = 2, 24, 300
FP32_BOUND, BF16_FACTOR = 1e-5, 2.0
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Forja:
    def __init__(self, binaries, folder):
        self.binaries, self.folder = Path(binaries).resolve(), Path(folder)

    def __call__(self, *arguments):
        command = [str(self.binaries / "forja"), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stderr}")

    def logits(self, model, ids, precision):
        files = self.folder / "ids.safetensors", self.folder / "logits.safetensors"
        save_file({"input_ids": ids}, files[0])
        subprocess.run([self.binaries / "dump_logits", self.folder / model, *files, precision], check=True)
        return load_file(files[1])["logits"]


def load(directory, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager").eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def truth_of(directory, ids):
    model = load(directory, torch.float32)
    with in_float64():
        return logits_of(build(model.config, model.state_dict(), torch.float64), ids)


def error(found, truth):
    return ((found.double() - truth).norm() / truth.norm()).item()


def same_tensors(a, b):
    """Bitwise, over all files of the model; and every name of one is in the other."""
    def all_of(folder):
        return {name: t for file in sorted(folder.glob("model*.safetensors")) for name, t in load_file(file).items()}
    a, b = all_of(a), all_of(b)
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def check(condition, *what):
    if not condition:
        raise AssertionError(what)


def errors_of(forja, model, directory, ids, exported=None):
    """Forja's and transformers' errors, in fp32 and bf16; the truth is kept for the directory that Forja exported."""
    truth = truth_of(directory, ids)
    name = (exported or directory).name
    save_file({"input_ids": ids.contiguous(), "logits": truth}, forja.folder / "truth" / (name + ".safetensors"))
    row = []
    for precision, dtype in DTYPES.items():
        row.append(error(forja.logits(model, ids, precision), truth))
        row.append(error(logits_of(load(directory, dtype), ids), truth))
    check(row[0] <= FP32_BOUND, model, "fp32", row)
    check(row[2] <= BF16_FACTOR * row[3], model, "bf16", row)
    return row


def model_in(forja, case, weights, ids):
    """transformers -> Forja -> transformers."""
    model_type, fields, _ = CASES[case]
    name = f"in-{case}-{weights}"
    source, checkpoint, back = (forja.folder / (name + end) for end in ("", "-checkpoint", "-back"))
    model = build(transformers.AutoConfig.for_model(model_type, **fields | {"vocab_size": VOCAB}))
    randomize(model, torch.Generator().manual_seed(1234))
    model.to(DTYPES[weights]).save_pretrained(source)
    forja("convert", source, checkpoint)
    forja("convert", checkpoint, back, "--max-shard-size", "20kB")
    check(len(list(back.glob("*.safetensors"))) > 1, name, "several shards")
    check(same_tensors(source, back), name, "the same tensors")
    check(load(back, "auto").dtype == DTYPES[weights], name, "dtype")
    check(torch.equal(forja.logits(name, ids, "fp32"), forja.logits(name + "-checkpoint", ids, "fp32")), name)
    check(torch.equal(logits_of(load(source, torch.float32), ids), logits_of(load(back, torch.float32), ids)), name)
    return errors_of(forja, name, source, ids, back)


def model_out(forja, case, precision, ids):
    """Forja -> transformers, of a model that Forja trained."""
    model_type, fields, _ = CASES[case]
    name = f"out-{case}-{precision}"
    config = transformers.AutoConfig.for_model(model_type, **fields | {"vocab_size": VOCAB})
    config.architectures = ["of a published file"]
    config.to_json_file(forja.folder / "model.json", use_diff=False)
    run = {"name": name, "output": name, "model": "model.json",
           "data": {"tokenizer": "tokenizer.json", "train": "data", "sequence_length": LENGTH},
           "train": {"steps": 20, "global_batch_size": 8, "precision": precision, "device": "cpu"},
           "optimizer": {"lr": 1e-2}}
    (forja.folder / "run.yaml").write_text(json.dumps(run))
    forja("train", "run.yaml")
    forja("convert", name, name + "-hf")
    check(load(forja.folder / (name + "-hf"), "auto").dtype == DTYPES[precision], name, "dtype")
    tokenizer = transformers.AutoTokenizer.from_pretrained(forja.folder / (name + "-hf"))
    check(tokenizer.decode(tokenizer("the quick fox")["input_ids"]) == "the quick fox", name, "tokenizer")
    check(tokenizer.eos_token_id is not None, name, "eos")
    if precision == "bf16":  # what computed: the masters, rounded
        return errors_of(forja, name + "-hf", forja.folder / (name + "-hf"), ids)
    return errors_of(forja, name, forja.folder / (name + "-hf"), ids)


def stories(forja, assets):
    """A pretrained model: imported, exported, its 200 greedy steps of the reference."""
    source = Path(assets).resolve() / "weights/stories260K"
    reference = load_file(source / "ref_greedy.safetensors")
    wanted = reference["ids"].flatten().long()
    forja("convert", source, "stories")
    forja("convert", "stories", "stories-hf")
    check(same_tensors(source, forja.folder / "stories-hf"), "stories", "the same tensors")
    rows = reference["logits"].flatten(0, -2)
    ids = wanted[None, :len(rows)]
    row = errors_of(forja, "stories", forja.folder / "stories-hf", ids)
    found = forja.logits("stories", ids, "fp32")[0]
    check(error(found, rows.double()) <= FP32_BOUND, "stories", "reference logits")
    check(torch.equal(found.argmax(-1)[:len(wanted) - 1], wanted[1:len(found) + 1]), "stories", "greedy")
    model = load(forja.folder / "stories-hf", torch.float32)
    made = model.generate(wanted[None, :1], attention_mask=torch.ones(1, 1), max_new_tokens=len(wanted) - 1,
                          do_sample=False, pad_token_id=0, eos_token_id=None)[0]
    check(torch.equal(made, wanted), "stories", "greedy of transformers")
    return row


def prepare(folder):
    """A text to train on."""
    (folder / "truth").mkdir()
    draw = random.Random(1)
    words = "the quick fox and lazy dog over jumps el veloz kiwi come murciélago de noche".split()
    text = "\n%\n".join(" ".join(draw.choices(words, k=40)) for _ in range(200))
    (folder / "text.txt").write_text(text + "\n", encoding="utf-8")


def table(rows):
    lines = ["| model | weights | way | Forja fp32 | transformers fp32 | Forja bf16 | transformers bf16 |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for (case, weights, way), row in rows:
        lines.append(f"| {case} | {weights} | {way} | " + " | ".join(f"{x:.1e}" for x in row) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def measure(forja, assets):
    ids = torch.randint(VOCAB, (BATCH, LENGTH), generator=torch.Generator().manual_seed(7))
    for case in CASES:
        for weights in DTYPES:
            yield (case, weights, "in"), model_in(forja, case, weights, ids)
            yield (case, weights, "out"), model_out(forja, case, weights, ids)
    if assets:
        yield ("stories260K", "fp32", "in, and out"), stories(forja, assets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", default=os.environ.get("FORJA_TEST_ASSETS"))
    parser.add_argument("--binaries", default=ROOT / "build/release")
    parser.add_argument("--older", help="a Python with another transformers")
    parser.add_argument("--out", help="file to which the table goes")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="forja-parity-") as folder:
        forja = Forja(arguments.binaries, folder)
        prepare(forja.folder)
        separator = ["--document-separator", "%"]
        forja("tokenizer", "train", "text.txt", "--vocab-size", VOCAB, "--out", "tokenizer.json", *separator)
        forja("tokenize", "text.txt", "--tokenizer", "tokenizer.json", "--out", "data", *separator)
        text = table(measure(forja, arguments.assets))
        if arguments.older:
            text += "\n" + subprocess.run([arguments.older, ROOT / "benchmarks/parity/older.py", folder], check=True,
                                          stdout=subprocess.PIPE, text=True).stdout
            print(text.splitlines()[-1])
    print(f"all within {FP32_BOUND:g} (fp32) and {BF16_FACTOR:g} times transformers (bf16)")
    if arguments.out:
        Path(arguments.out).write_text(text)


if __name__ == "__main__":
    main()
