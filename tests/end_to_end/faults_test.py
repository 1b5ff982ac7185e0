# SPDX-License-Identifier: Apache-2.0
"""Faults put into checkpoints, disks and weights: each is found and named, and nothing is lost.

FORJA_FAULTS_REPORT names a file for what was injected and what was said, as a table.
"""

import errno
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest
from pathlib import Path

from forja_testing import FORJA, Result, children, is_root
from resume_test import CONSTANT, ResumeCase

REPORT = os.environ.get("FORJA_FAULTS_REPORT")
NOBODY = 65534
ROWS = []


def tearDownModule():
    if REPORT:
        lines = ["| injected | said | afterwards |", "| --- | --- | --- |", *ROWS]
        Path(REPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")


class FaultsCase(ResumeCase):
    def found(self, injected, result, pattern, afterwards):
        """A line of standard error has the pattern; it goes into the report."""
        lines = [line for line in result.err.splitlines() if re.search(pattern, line)]
        self.assertTrue(lines, f"{pattern}: {result}")
        said = lines[0].replace(f"{self.folder}/", "").replace(socket.gethostname(), "HOST")
        ROWS.append(f"| {injected} | `{said}` | {afterwards} |")
        return lines[0]

    def assert_whole(self, name, steps):
        for step in steps:
            out = self.succeed("inspect", self.checkpoint(name, step), "--verify").out
            self.assertIn("every checksum is right", out)

    def assert_checkpoints_are_whole(self, name):
        for path in (self.folder / name / "checkpoints").glob("step-*"):
            self.assertFalse(path.name.endswith(".partial"), "nothing half-written")
            self.succeed("inspect", path, "--verify")


class DamagedCheckpointTest(FaultsCase):
    """The newest checkpoint is damaged: the one before it is gone on from, to the same end."""

    def setUp(self):
        super().setUp()
        self.train("whole")
        shutil.copytree(self.folder / "whole", self.folder / "run", symlinks=True)

    def shard(self, step, number=0):
        return sorted(self.checkpoint("run", step).glob("*.safetensors"))[number]

    def check_skipped(self, injected, *words, ranks=0):
        shutil.copytree(self.folder / "run", self.folder / "again", symlinks=True)
        result = self.train("again", ranks=ranks)
        said = self.found(
            injected,
            result,
            "step-00000008 cannot be continued from",
            "continues from step 4, to the same weights",
        )
        for word in words:
            self.assertIn(word, said)
        self.assertRegex(result.err, r"continuing from \S*/step-00000004 \(step 4\)")
        self.assertEqual(result.err.count("cannot be continued from"), 1, result)
        self.assert_whole("again", (4, 8))
        if ranks:  # sums in another order
            self.assert_same_losses(self.losses("whole"), self.losses("again"), "two ranks")
        else:
            self.assert_same_run("whole", "again", 8)
        shutil.rmtree(self.folder / "again")

    def test_a_flipped_bit(self):
        shard = self.shard(8)
        data = bytearray(shard.read_bytes())
        data[-100] ^= 4
        shard.write_bytes(data)
        words = ["shard-00000.safetensors: tensor ", "is damaged: checksum", "expected"]
        self.check_skipped("flipped bit in a shard", *words)
        self.check_skipped("the same, 2 ranks", *words, "(rank ", ranks=2)
        damaged = self.checkpoint("run", 8)
        self.refuse(["shard-00000.safetensors: tensor"], "inspect", damaged, "--verify")

    def test_a_truncated_shard(self):
        shard = self.shard(8)
        shard.write_bytes(shard.read_bytes()[:-10])
        self.check_skipped("truncated shard", "shard-00000.safetensors is missing or truncated")

    def test_a_missing_shard(self):
        self.shard(8).unlink()
        self.check_skipped("missing shard", "shard-00000.safetensors is missing or truncated")

    def test_a_damaged_manifest(self):
        manifest = self.checkpoint("run", 8) / "manifest.json"
        manifest.write_text(manifest.read_text()[:200])
        self.check_skipped("truncated manifest", "manifest.json is damaged")

    def test_the_manifest_of_another_run(self):
        self.train("other", "train.seed=77")
        shutil.copy(self.checkpoint("other", 8) / "manifest.json", self.checkpoint("run", 8))
        self.check_skipped(
            "manifest of another run of the same layout", "shard-00000.safetensors: tensor"
        )
        shutil.rmtree(self.folder / "other")
        self.train("other", "train.seed=77", "parallel.zero=1", ranks=2)
        shutil.copy(self.checkpoint("other", 8) / "manifest.json", self.checkpoint("run", 8))
        self.check_skipped("manifest of another run of another layout", "shard-0000")

    def test_the_whole_checkpoint_of_another_run(self):
        self.train("other", "train.seed=77")
        shutil.rmtree(self.checkpoint("run", 8))
        shutil.copytree(self.checkpoint("other", 8), self.checkpoint("run", 8))
        words = ["it is of another run", '"train.seed" differs in its config.yaml']
        self.check_skipped("whole checkpoint of another run", *words)

    def test_all_of_them(self):
        for step in (4, 8):
            self.shard(step).unlink()
        result = self.refuse(
            ["no checkpoint of", "step-00000008", "Remove", "run/checkpoints to start"],
            *("train", "run.yaml", "output=run"),
        )
        self.found("every checkpoint damaged", result, "no checkpoint of", "exit code 2")


class SaveFaultsCase(FaultsCase):
    """A run of 8 steps whose checkpoints lie on a disk of their own, then one that cannot save."""

    MODES = ("checkpoint.async=false", "checkpoint.async=true")
    LONGER = [CONSTANT, "train.steps=24", "checkpoint.every=4", "parallel.zero=1"]

    def begin(self, name, disk=True):
        self.disk = self.folder / name / "checkpoints"
        if disk:
            self.mount(self.disk, "size=16m")
        self.train(name, *self.LONGER, "train.steps=8", ranks=2)

    def check_no_saves(self, injected, name, pattern, mode, **options):
        """The run warns, goes on to its end and fails there, as it has not saved it."""
        result = self.forja("train", "run.yaml", f"output={name}", *self.LONGER, mode, **options)
        self.assertEqual((result.code, len(result.errors)), (1, 1), result)
        warning = rf"warning: step \d+: no checkpoint was saved, the run goes on: .*{pattern}"
        afterwards = "older ones whole; its end not saved: exit code 1; mended, goes on from step 8"
        self.found(injected, result, warning, afterwards)
        self.assertRegex(result.errors[0], f"no checkpoint was saved: .*{pattern}.*goes on from")
        self.assertEqual(len(re.findall(warning, result.err)), 3, result)
        self.assertEqual(len(self.losses(name)), 24, "every step was done")
        self.assert_whole(name, (4, 8))
        self.assertEqual(list(self.disk.glob("*.partial")), [], "nothing half-written")

    def check_goes_on_alone(self, name, **options):
        result = self.train(name, *self.LONGER, **options)
        self.assertRegex(result.err, r"continuing from \S*/step-00000008 \(step 8\)")
        self.assert_whole(name, (4, 8, 12, 16, 20, 24))

    def check_goes_on(self, name, **options):
        """As one that could save."""
        self.check_goes_on_alone(name, **options)
        if not (self.folder / "whole").exists():
            self.train("whole", *self.LONGER, ranks=2)
        self.assert_same_run("whole", name, 24)


class FullDiskTest(SaveFaultsCase):
    def fill(self, left_bytes):
        """What is left of the disk of the checkpoints."""
        free = os.statvfs(self.disk)
        ballast = free.f_bavail * free.f_frsize - left_bytes
        (self.disk / "ballast").write_bytes(bytes(ballast))

    def fill_while_it_is_written(self, disk):
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)

    def check_full(self, left_bytes, pattern, what):
        for i, mode in enumerate(self.MODES):
            with self.subTest(mode=mode):
                name = f"run-{i}"
                self.begin(name)
                self.fill(left_bytes)
                injected = f"disk full, {what}, {mode}, 2 ranks"
                self.check_no_saves(injected, name, pattern, mode, ranks=2)
                (self.disk / "ballast").unlink()
                self.check_goes_on(name, ranks=2)

    def test_full_at_the_first_byte(self):
        pattern = (
            r"rank \d: cannot write \S*step-000000\d\d.partial/shard-0000\d.safetensors"
            " after 0 bytes: No space left on device"
        )
        self.check_full(0, pattern, "at the first byte")

    def test_full_in_the_middle(self):
        pattern = (
            r"rank \d: cannot write \S*step-000000\d\d.partial/shard-0000\d.safetensors"
            r" after \d+ bytes: No space left on device"  # 0 where the other rank had taken it all
        )
        self.check_full(200_000, pattern, "in the middle of a shard")

    def test_full_for_the_manifest(self):
        """Both shards find room."""
        self.begin("run")
        shards = sum(f.stat().st_blocks * 512 for f in self.checkpoint("run", 8).glob("shard*"))
        lists = 4 * 4096
        self.fill(shards + lists)
        pattern = r"rank 0: cannot write \S*/(manifest.json|config.yaml) .*No space left on device"
        self.check_no_saves(
            "disk full, at the manifest, 2 ranks", "run", pattern, self.MODES[0], ranks=2
        )
        (self.disk / "ballast").unlink()
        self.check_goes_on("run", ranks=2)

    def test_full_for_everything_and_free_again(self):
        """The log waits for room like the saves, and the run meets both again."""
        disk, log = self.folder / "disk", self.folder / "log"
        self.mount(disk, "size=16m")
        often = [CONSTANT, "checkpoint.every=5", "checkpoint.keep_last=3", "train.log_every=1000"]
        endless = [*often, "output=disk/run", "train.steps=99999"]
        run = self.start("train", "run.yaml", *endless, ranks=2, log=log)
        self.wait_for("two checkpoints", lambda: self.newest("disk/run") >= 10, run)

        def said(words):
            self.wait_for(words, lambda: words in log.read_text(), run)

        for _ in range(20):  # what a failed save frees again, too
            self.fill_while_it_is_written(disk)
            if "metrics.jsonl: No space left" in log.read_text():
                break
            time.sleep(0.1)
        said("no checkpoint was saved, the run goes on")
        said("metrics.jsonl: No space left on device; the run goes on")
        self.assert_checkpoints_are_whole("disk/run")
        (disk / "ballast").unlink()
        said("metrics.jsonl is written again, with nothing missing")
        before = self.newest("disk/run")
        self.wait_for("new checkpoints", lambda: self.newest("disk/run") > before, run)
        for pid in children(run.pid):
            os.kill(pid, signal.SIGTERM)
        self.assertEqual(run.wait(timeout=60), 75, log.read_text())
        result = Result(75, "", log.read_text())
        self.found(
            "disk full for the log, 2 ranks",
            result,
            "metrics.jsonl: No space left",
            "no line is missing; exit code 75 when stopped later",
        )
        end = f"train.steps={self.newest('disk/run') + 5}"
        self.train("disk/run", *often, end, ranks=2)
        self.train("whole", *often, end, ranks=2)
        self.assert_same_run("whole", "disk/run", self.newest("whole"))

    def test_full_after_some_checkpoints(self):
        """The whole run directory is there."""
        self.mount(self.folder / "disk", "size=2m")
        steps = ["train.steps=24", "checkpoint.every=4", "eval.every=0"]
        result = self.forja("train", "run.yaml", "output=disk/run", *steps)
        self.assertEqual((result.code, len(result.errors)), (1, 1), result)
        self.assertIn("No space left on device", result.errors[0])
        self.assertRegex(result.err, r"warning: step \d+: no checkpoint was saved, the run goes on")
        self.assert_checkpoints_are_whole("disk/run")
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder / "disk")], check=True)
        self.train("disk/run", *steps)
        self.train("whole", *steps)
        self.assert_same_run("whole", "disk/run", 24)

    def test_no_room_at_all(self):
        disk = self.folder / "disk"
        self.mount(disk, "size=64k")
        (disk / "ballast").write_bytes(bytes(15 * 4096))
        words = ["cannot write", "No space left on device"]
        self.refuse(words, "train", "run.yaml", "output=disk/run", code=1)
        self.refuse(
            words, "tokenize", "text.txt", "--tokenizer=tokenizer.json", "--out=disk/out", code=1
        )
        train = ["tokenizer", "train", "text.txt", "--vocab-size=300"]
        self.refuse(words, *train, "--out=disk/out.json", code=1)
        self.train("run")
        self.refuse(words, "report", "run", "--html=disk/report.html", code=1)
        left = [name for name in self.files("disk") if not name.startswith("run")]
        self.assertEqual(left, ["ballast"], "nothing half-written")

    def test_files_of_limited_size(self):
        limit = 200_000  # below a shard

        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        for i, mode in enumerate(self.MODES):
            with self.subTest(mode=mode):
                name = f"run-{i}"
                self.begin(name, disk=False)
                pattern = rf"shard-00000.safetensors after {limit} bytes: File too large"
                self.check_no_saves(
                    f"files of limited size, {mode}", name, pattern, mode, preexec=limited
                )
                self.check_goes_on_alone(name)


class ReadOnlyTest(SaveFaultsCase):
    def test_checkpoints_become_read_only(self):
        for i, mode in enumerate(self.MODES):
            with self.subTest(mode=mode):
                name = f"run-{i}"
                self.begin(name)
                subprocess.run(["mount", "-o", "remount,ro", str(self.disk)], check=True)
                pattern = r"rank 0: .*step-000000\d\d.partial: Read-only file system"
                self.check_no_saves(
                    f"read-only checkpoints, {mode}, 2 ranks", name, pattern, mode, ranks=2
                )
                subprocess.run(["mount", "-o", "remount,rw", str(self.disk)], check=True)
                self.check_goes_on(name, ranks=2)

    def test_a_run_directory_that_is_read_only(self):
        disk = self.folder / "disk"
        self.mount(disk, "size=16m")
        self.train("disk/run", CONSTANT, "train.steps=4")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        words = ["cannot write", "disk/run", "Read-only file system"]
        result = self.refuse(words, "train", "run.yaml", "output=disk/run", CONSTANT)
        self.found("read-only run directory", result, "error:", "exit code 2 before the first step")
        self.assert_whole("disk/run", (4,))
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        self.train("disk/run", CONSTANT)
        self.train("whole", CONSTANT)
        self.assert_same_run("whole", "disk/run", 8)


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


class PermissionTest(SaveFaultsCase):
    """As a user who may not: root may everything."""

    def setUp(self):
        super().setUp()
        if not is_root():
            self.skipTest("becoming another user needs root")
        self.folder.chmod(0o755)
        # The folders above the binary may be closed to that user.
        self.binary = shutil.copy(FORJA, self.folder / "forja")
        self.options = {"binary": self.binary, "preexec": as_nobody}

    def give(self, path):
        """To that user, with all that is in it."""
        for entry in [path, *path.rglob("*")]:
            os.chown(entry, NOBODY, NOBODY, follow_symlinks=False)

    def test_the_run_directory_is_of_another_user(self):
        self.train("run", CONSTANT, "train.steps=4")
        words = ["cannot write", "run", "Permission denied"]
        result = self.refuse(words, "train", "run.yaml", "output=run", CONSTANT, **self.options)
        injected = "permission denied, run directory"
        self.found(injected, result, "error:", "exit code 2 before the first step")
        self.assert_whole("run", (4,))
        self.give(self.folder / "run")
        self.train("run", CONSTANT, **self.options)
        self.train("whole", CONSTANT)
        self.assert_same_run("whole", "run", 8)

    def test_the_checkpoints_are_of_another_user(self):
        for i, mode in enumerate(self.MODES):
            with self.subTest(mode=mode):
                name = f"run-{i}"
                self.begin(name, disk=False)
                self.give(self.folder / name)
                os.chown(self.disk, 0, 0)
                pattern = r"step-000000\d\d.partial: Permission denied"
                injected = f"permission denied, checkpoints, {mode}"
                self.check_no_saves(injected, name, pattern, mode, **self.options)
                os.chown(self.disk, NOBODY, NOBODY)
                self.check_goes_on_alone(name, **self.options)

    def test_a_shard_may_not_be_read(self):
        self.train("run")
        self.give(self.folder / "run")
        (self.checkpoint("run", 8) / "shard-00000.safetensors").chmod(0)
        result = self.train("run", **self.options)
        pattern = "step-00000008 cannot be continued from: .*shard-00000.*Permission denied"
        afterwards = "continues from step 4, to the same weights"
        self.found("permission denied, a shard to be read", result, pattern, afterwards)
        self.train("whole")
        self.assert_same_run("whole", "run", 8)


class NonFiniteTest(FaultsCase):
    """What is not finite on one rank is told with that rank, though soon all have it."""

    def setUp(self):
        super().setUp()
        self.train("base", "train.steps=4")
        self.succeed("convert", self.checkpoint("base", 4), "hf", "--dtype", "fp32")

    def change(self, name, change):
        """Applies `change` to the values, row-major, and the shape of a tensor of hf/."""
        for path in (self.folder / "hf").glob("*.safetensors"):
            data = bytearray(path.read_bytes())
            size = int.from_bytes(data[:8], "little")
            entry = json.loads(data[8 : 8 + size]).get(name)
            if entry is None:
                continue
            self.assertEqual(entry["dtype"], "F32")
            begin, end = (8 + size + at for at in entry["data_offsets"])
            count = (end - begin) // 4
            values = list(struct.unpack(f"<{count}f", data[begin:end]))
            change(values, entry["shape"])
            data[begin:end] = struct.pack(f"<{count}f", *values)
            path.write_bytes(data)
            return
        self.fail(f"no tensor {name}")

    def refuse_run(self, injected, words, *overrides, ranks=2):
        arguments = ["train", "run.yaml", "output=run", "init.from=hf", *overrides]
        result = self.refuse(
            ["the gradient is not finite", *words], *arguments, code=1, ranks=ranks
        )
        self.found(injected, result, "error:", "no weight changed; exit code 1")
        self.assertEqual(list((self.folder / "run/checkpoints").glob("step-*")), [])
        shutil.rmtree(self.folder / "run")
        return result.errors[0]

    def test_a_weight_of_one_rank(self):
        def spoil_last(values, _):
            values[-1] = math.nan

        # Its columns are shared by tp, its layer is the second stage's.
        self.change("model.layers.1.mlp.down_proj.weight", spoil_last)
        host = f"the weight itself, on host {socket.gethostname()} (rank 1)"
        words = ["layers.1.mlp.down.weight, element", host, "go on from an older checkpoint"]
        for layout in ("tp", "pp"):
            with self.subTest(layout=layout):
                injected = f"NaN in a weight that rank 1 has, {layout} 2"
                self.refuse_run(injected, words, f"parallel.{layout}=2")

    def spoil_one_token(self):
        """Weights that are finite, and overflow where the token Z is met, which is in one sample.

        The first hidden value is 0 for every other token, until the values of the first attention,
        which it enters with a weight that overflows if it is not.
        """
        vocabulary = json.loads((self.folder / "tokenizer.json").read_text())["model"]["vocab"]
        rare = vocabulary["Z"]

        def embeddings(values, shape):
            for row in range(shape[0]):
                values[row * shape[1]] = 1.0 if row == rare else 0.0

        def attention_values(values, shape):
            for row in range(shape[0]):
                values[row * shape[1]] = 3e38

        self.change("model.embed_tokens.weight", embeddings)
        self.change("model.layers.0.self_attn.v_proj.weight", attention_values)

    def test_the_gradient_of_one_rank(self):
        """Its samples are met by it alone; a run alone with its batches says which they are."""
        text = (self.folder / "text.txt").read_text().split("\n%\n")
        text[100] = text[100].replace("lazy", "laZy", 1)
        (self.folder / "text.txt").write_text("\n%\n".join(text))
        self.succeed(
            *("tokenize", "text.txt", "--tokenizer=tokenizer.json", "--out=rare"),
            *("--document-separator", "%"),
        )
        self.spoil_one_token()
        tiny = ["data.train=rare", CONSTANT, "optimizer.lr=1e-38", "optimizer.weight_decay=0"]
        tiny += ["train.steps=500", "eval.every=0", "checkpoint.every=0"]
        injected = "NaN in the gradient of one sample, alone"
        said = self.refuse_run(injected, [], *tiny, "train.global_batch_size=4", ranks=0)
        batch = int(re.search(r"step (\d+): the gradient", said).group(1)) - 1
        step, rank = batch // 2 + 1, batch % 2
        host = f"on host {socket.gethostname()} (rank {rank})"
        for zero in (0, 1, 2, 3):
            with self.subTest(zero=zero):
                injected = f"NaN in the gradient of rank {rank}, dp 2, ZeRO {zero}"
                words = [f"step {step}: ", "embedding.weight, element", host, "non_finite=continue"]
                self.refuse_run(injected, words, *tiny, f"parallel.zero={zero}")


if __name__ == "__main__":
    unittest.main()
