# SPDX-License-Identifier: Apache-2.0
"""Drives the binary as a user does: commands, exit codes, files. Standard library only.

FORJA_BINARY names the binary (default: build/release/forja), FORJA_TEST_ASSETS a folder of real
texts and weights that some tests need and are skipped without.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORJA = os.environ.get("FORJA_BINARY", str(ROOT / "build/release/forja"))
ASSETS = Path(os.environ.get("FORJA_TEST_ASSETS", ROOT / "../shared/assets"))
TIMEOUT_S = 120

# Open MPI refuses root and more ranks than cores; ranks and tests share the cores.
ENVIRONMENT = dict(
    os.environ,
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMP_WAIT_POLICY="passive",
)

VOCABULARY = 300
CONFIG = {
    "model": {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    },
    "data": {
        "tokenizer": "tokenizer.json",
        "train": "data",
        "valid": "data",
        "sequence_length": 32,
    },
    "train": {"steps": 8, "global_batch_size": 8, "micro_batch_size": 2, "device": "cpu"},
    "optimizer": {"lr": 1.0e-2, "schedule": {"name": "cosine", "warmup_steps": 2}},
    "eval": {"every": 4, "batches": 2},
    "checkpoint": {"every": 4, "keep_last": 0},
}


class Result:
    """What a command left: exit code, standard output, standard error."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def command_line(arguments, ranks=0, binary=FORJA):
    """`ranks` 0: alone, without mpirun."""
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe"] if ranks else []
    return launcher + [str(a) for a in (binary, *arguments)]


def run(arguments, cwd, ranks=0, text="", binary=FORJA, environment=(), preexec=None):
    if isinstance(text, str):
        text = text.encode()
    done = subprocess.run(
        command_line(arguments, ranks, binary),
        cwd=cwd,
        input=text,
        capture_output=True,
        env={**ENVIRONMENT, **dict(environment)},
        timeout=TIMEOUT_S,
        preexec_fn=preexec,
        check=False,
    )
    return Result(
        done.returncode,
        done.stdout.decode(errors="surrogateescape"),
        done.stderr.decode(errors="surrogateescape"),
    )


def some_text(num_documents=200, seed=1):
    """Documents of a small language with letters of one and two bytes, separated by lines of %."""
    words = "the quick fox and lazy dog over jumps el veloz kiwi come murciélago de noche ñandú"
    draw = random.Random(seed)
    documents = [" ".join(draw.choices(words.split(), k=40)) for _ in range(num_documents)]
    return "\n%\n".join(documents) + "\n"


def written(value):
    """A value as flow YAML (which JSON is)."""
    return json.dumps(value)


class ForjaTest(unittest.TestCase):
    """A folder with text.txt, tokenizer.json, data/ and run.yaml, anew for every test."""

    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.prepared = Path(tempfile.mkdtemp(prefix="forja-"))
        cls.addClassCleanup(shutil.rmtree, cls.prepared, ignore_errors=True)
        (cls.prepared / "text.txt").write_text(some_text(), encoding="utf-8")
        separator = ["--document-separator", "%"]
        for arguments in (
            [
                "tokenizer",
                "train",
                "text.txt",
                "--vocab-size",
                VOCABULARY,
                "--out",
                "tokenizer.json",
            ],
            ["tokenize", "text.txt", "--tokenizer", "tokenizer.json", "--out", "data"],
        ):
            result = run(arguments + separator, cls.prepared)
            if result.code != 0:
                raise RuntimeError(f"forja {arguments}: {result}")

    @classmethod
    def pretrain(cls, *overrides):
        """The run "model" in every test's folder; its test may call forja there."""
        trainer = cls()
        trainer.folder = cls.prepared
        trainer.write_config("run.yaml")
        trainer.train("model", "eval.every=0", *overrides)
        return trainer

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="forja-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        shutil.copytree(self.prepared, self.folder, dirs_exist_ok=True)
        self.write_config("run.yaml")

    # Commands

    def write_config(self, name, **changes):
        """A run file; train={"steps": 3} changes a key of a section."""
        config = {
            key: {**CONFIG.get(key, {}), **changes.get(key, {})} for key in {**CONFIG, **changes}
        }
        lines = [f"{key}: {written(value)}\n" for key, value in config.items()]
        (self.folder / name).write_text("".join(lines), encoding="utf-8")
        return name

    def forja(self, *arguments, **options):
        return run(arguments, self.folder, **options)

    def succeed(self, *arguments, **options):
        result = self.forja(*arguments, **options)
        self.assertEqual(result.code, 0, f"{arguments}: {result}")
        return result

    def train(self, name, *overrides, **options):
        """A whole run in the folder `name`."""
        return self.succeed("train", "run.yaml", f"output={name}", *overrides, **options)

    def assert_refused(self, result, *words, code=2):
        """The exit code, and one line on standard error that holds all of `words`."""
        self.assertEqual(result.code, code, result)
        self.assertEqual(len(result.errors), 1, result)
        self.assertEqual(result.out, "", result)
        for word in words:
            self.assertIn(str(word), result.errors[0])

    def refuse(self, words, *arguments, code=2, ranks=0, **options):
        result = self.forja(*arguments, ranks=ranks, **options)
        self.assert_refused(result, *words, code=code)
        if not ranks:  # mpirun has words of its own about it
            last = [
                line for line in result.err.splitlines() if line != "Run with --help for usage."
            ][-1]
            self.assertEqual(last, result.errors[0], "one line")
        return result

    def start(self, *arguments, ranks=0, log=None):
        """A command that goes on in the background; killed at the end of the test at the latest.
        What it says goes into the file `log`, or waits in its stderr."""
        with open(log or os.devnull, "wb") as file:
            process = subprocess.Popen(
                command_line(arguments, ranks),
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=file if log else subprocess.PIPE,
                env=ENVIRONMENT,
            )
        if process.stderr:
            self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, what, condition, process=None):
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if process and process.poll() is not None:
                said = process.stderr.read().decode() if process.stderr else ""
                self.fail(f"ended before {what}: {said}")
            self.assertLess(time.monotonic(), end, f"waited too long for {what}")
            time.sleep(0.002)

    def mount(self, folder, options):
        """A small file system at `folder`, until the end of the test; skips it where that is not
        allowed."""
        if not is_root():
            self.skipTest("mounting needs root")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            self.skipTest("mounting a tmpfs is not allowed here")
        self.addCleanup(subprocess.run, ["umount", str(folder)], check=False)

    # What a run left

    def metrics(self, name):
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def losses(self, name):
        return [line["loss"] for line in self.metrics(name) if "loss" in line]

    def evaluations(self, name):
        return [line["eval"]["valid"]["loss"] for line in self.metrics(name) if "eval" in line]

    def assert_same_losses(self, expected, found, what):
        self.assertEqual(len(expected), len(found), what)
        for step, (a, b) in enumerate(zip(expected, found), 1):
            self.assertLessEqual(abs(a - b), 1e-5 * a, f"{what}, step {step}: {a} and {b}")

    def lasting_metrics(self, name):
        """What depends on nothing but the run: no times, no memory."""
        kept = ("step", "tokens", "loss", "lr", "grad_norm", "skipped", "eval")
        return [{k: line[k] for k in kept if k in line} for line in self.metrics(name)]

    def checkpoint(self, name, step):
        return self.folder / name / "checkpoints" / f"step-{step:08}"

    def weights(self, name, step):
        """The bytes of every tensor, moments included, of a checkpoint."""
        tensors = {}
        for file in sorted(self.checkpoint(name, step).glob("*.safetensors")):
            tensors.update(read_safetensors(file))
        self.assertTrue(tensors)
        return tensors

    def files(self, folder="."):
        """Every path below a folder."""
        start = self.folder / folder
        return sorted(str(p.relative_to(start)) for p in start.rglob("*"))


def read_safetensors(file):
    data = Path(file).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            key = (name, entry["dtype"], tuple(entry["shape"]))
            tensors[key] = data[8 + size + begin : 8 + size + end]
    return tensors


def children(pid):
    """Process ids of the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(fields[1]) == pid:
            found.append(int(entry.name))
    return sorted(found)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def is_root():
    return os.geteuid() == 0
