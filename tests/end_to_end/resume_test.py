# SPDX-License-Identifier: Apache-2.0
"""A run that was killed or stopped goes on as if nothing had happened."""
import shutil
import unittest

import tensorboard
from forja_testing import ForjaTest, children, kill

# Long enough to be killed in the middle: some milliseconds a step.
STEPS = 160
LONG = [f"train.steps={STEPS}", "checkpoint.every=10", "eval.every=20", "train.log_every=50"]


class ResumeTest(ForjaTest):
    def assert_same_run(self, expected, found, step):
        self.assertEqual(self.weights(expected, step), self.weights(found, step))
        self.assertEqual(self.lasting_metrics(expected), self.lasting_metrics(found))
        steps = [line["step"] for line in self.metrics(found) if "loss" in line]
        self.assertEqual(steps, list(range(1, step + 1)), "no gap and no doubled step")
        a = tensorboard.scalars(self.folder / expected / "tensorboard")
        b = tensorboard.scalars(self.folder / found / "tensorboard")
        for tag in ("loss/train", "loss/valid", "optimizer/lr", "optimizer/grad_norm"):
            self.assertEqual(a[tag], b[tag], tag)
        self.assertEqual(sorted(b["loss/train"]), steps)

    def killed(self, name, ranks, at_step):
        """Starts a run, and kills every rank of it when the checkpoint of `at_step` is there."""
        run = self.start("train", "run.yaml", f"output={name}", *LONG, ranks=ranks)
        there = self.checkpoint(name, at_step).exists
        self.wait_for(f"step {at_step}", there, run)
        for pid in children(run.pid) if ranks else [run.pid]:
            kill(pid)
        self.assertNotEqual(run.wait(timeout=30), 0)
        self.assertFalse(self.checkpoint(name, STEPS).exists(), "it was killed in the middle")

    def check_kill(self, ranks):
        self.train("whole", *LONG, ranks=ranks)
        self.killed("killed", ranks, 50)
        self.killed("killed", ranks, 100)
        result = self.train("killed", *LONG, ranks=ranks)
        self.assertRegex(result.err, r"continuing from \S*checkpoints/step-00000(10|11|12|13|14|15)0")
        self.assert_same_run("whole", "killed", STEPS)

    def test_kill_9(self):
        self.check_kill(ranks=0)

    def test_kill_9_of_two_ranks(self):
        self.check_kill(ranks=2)

    def test_what_a_kill_leaves_half_written_does_no_harm(self):
        self.train("whole")
        self.train("parts")
        newest = self.checkpoint("parts", 8)
        newest.rename(newest.with_name(newest.name + ".partial"))
        (newest.with_name(newest.name + ".partial") / "manifest.json").unlink()
        with open(self.folder / "parts" / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('{"step":9,"loss":1.')
        self.train("parts")
        self.assert_same_run("whole", "parts", 8)
        self.assertEqual(self.files("whole/checkpoints"), self.files("parts/checkpoints"))

    def test_stop_at_a_step_and_go_on(self):
        # The schedule must not depend on the length: a shorter run is then the longer one's start.
        constant = ["optimizer.schedule={name: constant}", "eval.every=3"]
        self.train("whole", *constant)
        self.train("parts", *constant, "train.steps=3")
        self.train("parts", *constant)
        self.assertEqual(self.weights("whole", 8), self.weights("parts", 8))
        self.assertEqual(self.losses("whole"), self.losses("parts"))

    def test_a_finished_run_is_left_alone(self):
        self.train("run")
        before = {p: p.read_bytes() for p in (self.folder / "run").rglob("*") if p.is_file()}
        result = self.train("run")
        self.assertIn("has already done its 8 steps", result.err)
        after = {p: p.read_bytes() for p in (self.folder / "run").rglob("*") if p.is_file()}
        self.assertEqual(before, after)

    def test_a_run_moves_with_its_folder(self):
        self.train("whole")
        self.train("parts")
        shutil.rmtree(self.checkpoint("parts", 8))
        (self.folder / "parts").rename(self.folder / "moved")
        self.train("moved")
        self.assert_same_run("whole", "moved", 8)

    def test_keep_last(self):
        self.train("run", "checkpoint.every=2", "checkpoint.keep_last=2")
        names = sorted(p.name for p in (self.folder / "run/checkpoints").iterdir())
        self.assertEqual(names, ["step-00000006", "step-00000008"])


if __name__ == "__main__":
    unittest.main()
