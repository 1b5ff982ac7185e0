# SPDX-License-Identifier: Apache-2.0
"""Folders that cannot be written, taken run directories, ranks that fail."""

import os
import shutil
import subprocess
import time
import unittest

from forja_testing import FORJA, ForjaTest, children, is_root, kill


class RunDirectoryFaultsTest(ForjaTest):
    def refuse_run(self, words, *overrides, **options):
        with self.subTest(overrides=overrides):
            before = self.files()
            self.refuse(words, "train", "run.yaml", *overrides, **options)
            self.assertEqual(self.files(), before, "nothing is written")

    def test_another_run(self):
        self.train("run")
        words = ["run already holds another run", "differs from", "Give another name or output"]
        for part, override in {
            "model": "model.intermediate_size=64",
            "data": "data.sequence_length=16",
            "optimizer": "optimizer.lr=0.5",
            "train.seed": "train.seed=5",
            "train.precision": "train.precision=bf16",
            "train.global_batch_size": "train.global_batch_size=16",
        }.items():
            self.refuse_run([*words, f'"{part}"'], "output=run", override)
        self.refuse_run(
            ["already holds a run", "train.resume is never"], "output=run", "train.resume=never"
        )
        self.refuse_run(words, "output=run", "train.seed=5", ranks=2)

    def test_folders_that_are_no_run(self):
        self.train("run")
        self.refuse_run(["data holds a manifest.json", "no run directory"], "output=data")
        checkpoint = "run/checkpoints/step-00000008"
        self.refuse_run([checkpoint, "no run directory"], f"output={checkpoint}")
        self.refuse_run(["text.txt is not a directory"], "output=text.txt")
        self.refuse_run(["text.txt is not a directory"], "output=text.txt/run")

    @unittest.skipIf(shutil.which("nvidia-smi"), "a GPU is here")
    def test_no_gpu(self):
        self.refuse_run(["train.device is cuda, but GPUs on host", ": none"], "output=run", "train.device=cuda")
        self.refuse_run(["train.device is cuda, but GPUs on host", ": none"], "output=run", "train.device=cuda", ranks=2)
        self.refuse_run(["train.device", "auto, cpu, cuda", "found gpu"], "output=run", "train.device=gpu")

    def test_unwritable(self):
        self.refuse_run(["cannot write /proc/forja/run"], "output=/proc/forja/run")
        self.refuse_run(["cannot write /proc/forja/run"], "output=/proc/forja/run", ranks=2)

    def test_read_only(self):
        closed = self.folder / "closed"
        closed.mkdir()
        words = [f"cannot write {closed}/run", f"in {closed}: "]
        if not is_root():
            closed.chmod(0o555)
            self.addCleanup(closed.chmod, 0o755)
            self.refuse_run([*words, "Permission denied"], "output=closed/run")
        else:
            self.mount(closed, "ro")
            self.refuse_run([*words, "Read-only file system"], "output=closed/run")

    def test_the_config_of_a_run_is_damaged(self):
        self.train("run")
        (self.folder / "run/config.yaml").write_text("name: [")
        self.refuse_run(["run/config.yaml:1:"], "output=run")


class FailingRankTest(ForjaTest):
    """What one rank meets ends all of them, soon, and is told once."""

    def on_rank_1(self, action):
        """A binary that does `action` first on rank 1: shell, where "$@" are the arguments."""
        script = self.folder / "forja.sh"
        condition = '[ "$OMPI_COMM_WORLD_RANK" = 1 ]'
        script.write_text(f'#!/bin/sh\nif {condition}; then {action}; fi\nexec "{FORJA}" "$@"\n')
        script.chmod(0o755)
        return script

    def refuse_rank(self, action, words, code=2):
        start = time.monotonic()
        result = self.forja(
            "train", "run.yaml", "output=run", ranks=2, binary=self.on_rank_1(action)
        )
        self.assertLess(time.monotonic() - start, 30)
        self.assert_refused(result, *words, code=code)

    def refuse_other_view(self, folder, words):
        """Rank 1 sees `folder` where the others see data."""
        if not is_root() or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
            self.skipTest("another view of the files on one rank is not allowed here")
        view = f'mount --bind {folder} data && exec "{FORJA}" "$@"'
        self.refuse_rank(f"exec unshare -m sh -c '{view}' sh \"$@\"", words)
        self.assertFalse((self.folder / "run").exists())

    def test_one_rank_has_no_data(self):
        (self.folder / "empty").mkdir()
        self.refuse_other_view("empty", ["rank 1: ", "data is not a dataset"])

    def test_one_rank_has_another_configuration(self):
        other = f'exec "{FORJA}" "$@" optimizer.lr=0.5'
        self.refuse_rank(other, ["the ranks do not have the same configuration"])
        self.assertFalse((self.folder / "run").exists())

    def test_one_rank_has_other_data(self):
        self.succeed("tokenize", "text.txt", "--tokenizer=tokenizer.json", "--out=other")
        self.refuse_other_view("other", ["the ranks do not have the same data"])

    def test_one_rank_cannot_write_its_shard(self):
        words = ["rank 1: cannot write", "shard-00001.safetensors", "File too large"]
        self.refuse_rank("ulimit -f 200", words, code=1)
        self.assertEqual(self.files("run/checkpoints"), [])

    def test_one_rank_ends_before_it_begins(self):
        result = self.forja("train", "run.yaml", ranks=2, binary=self.on_rank_1("exit 3"))
        self.assertNotEqual(result.code, 0)

    def test_one_rank_is_killed(self):
        overrides = ["output=run", "train.steps=99999", "checkpoint.every=10", "train.log_every=50"]
        run = self.start("train", "run.yaml", *overrides, ranks=2)
        self.wait_for("step 10", self.checkpoint("run", 10).exists, run)
        ranks = children(run.pid)
        self.assertEqual(len(ranks), 2)
        kill(ranks[1])
        self.assertNotEqual(run.wait(timeout=20), 0)
        for pid in ranks:
            self.wait_for(
                "the end of every rank", lambda pid=pid: not os.path.exists(f"/proc/{pid}")
            )

    def test_a_failure_of_all_ranks_is_told_once(self):
        wild = ["optimizer.lr=1e38", "optimizer.schedule={name: constant}"]
        for ranks in (0, 2):
            result = self.forja("train", "run.yaml", f"output=wild{ranks}", *wild, ranks=ranks)
            self.assert_refused(result, "the gradient is not finite", "embedding.weight", code=1)
            self.assertEqual(self.files(f"wild{ranks}/checkpoints"), [])


if __name__ == "__main__":
    unittest.main()
