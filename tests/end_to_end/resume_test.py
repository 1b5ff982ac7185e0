# SPDX-License-Identifier: Apache-2.0
"""A run that was killed or stopped goes on as if nothing had happened."""

import shutil
import unittest

import tensorboard
from forja_testing import ForjaTest, children, kill

# The schedule must not depend on the length: a shorter run is then the longer one's start.
CONSTANT = "optimizer.schedule={name: constant}"
SAVES = [CONSTANT, "checkpoint.every=10", "eval.every=20", "train.log_every=50"]


class ResumeCase(ForjaTest):
    def newest(self, name):
        steps = [int(p.name[5:]) for p in (self.folder / name).glob("checkpoints/step-????????")]
        return max(steps, default=0)

    def assert_same_run(self, expected, found, step):
        a, b = self.weights(expected, step), self.weights(found, step)
        self.assertEqual(a.keys(), b.keys())
        self.assertEqual([key for key in a if a[key] != b[key]], [], "tensors that differ")
        self.assertEqual(self.lasting_metrics(expected), self.lasting_metrics(found))
        steps = [line["step"] for line in self.metrics(found) if "loss" in line]
        self.assertEqual(steps, list(range(1, step + 1)), "no gap and no doubled step")
        a = tensorboard.scalars(self.folder / expected / "tensorboard")
        b = tensorboard.scalars(self.folder / found / "tensorboard")
        for tag in ("loss/train", "loss/valid", "optimizer/lr", "optimizer/grad_norm"):
            self.assertEqual(a[tag], b[tag], tag)
        self.assertEqual(sorted(b["loss/train"]), steps)


class KillTest(ResumeCase):
    def kill_after(self, name, step, ranks):
        """Starts a run without end, and kills every rank of it when a checkpoint is there."""
        run = self.start(
            "train", "run.yaml", f"output={name}", "train.steps=99999", *SAVES, ranks=ranks
        )
        self.wait_for(f"step {step}", lambda: self.newest(name) >= step, run)
        for pid in children(run.pid) if ranks else [run.pid]:
            kill(pid)
        self.assertNotEqual(run.wait(timeout=30), 0)

    def check_kill(self, ranks):
        self.kill_after("killed", 30, ranks)
        self.kill_after("killed", self.newest("killed") + 30, ranks)
        newest = self.newest("killed")
        end = newest + 20
        result = self.train("killed", f"train.steps={end}", *SAVES, ranks=ranks)
        self.assertRegex(result.err, rf"continuing from \S*/step-{newest:08} \(step {newest}\)")
        self.train("whole", f"train.steps={end}", *SAVES, ranks=ranks)
        self.assert_same_run("whole", "killed", end)

    def test_kill_9(self):
        self.check_kill(ranks=0)

    def test_kill_9_of_two_ranks(self):
        self.check_kill(ranks=2)


class AsyncTest(ResumeCase):
    """Checkpoints that are written while steps go on."""

    ASYNC = [*SAVES, "checkpoint.every=5", "checkpoint.async=true"]

    def kill_while_saving(self, name, ranks):
        run = self.start(
            "train", "run.yaml", f"output={name}", "train.steps=99999", *self.ASYNC, ranks=ranks
        )
        before = self.newest(name)
        self.wait_for("two checkpoints", lambda: self.newest(name) >= before + 10, run)
        folder = self.folder / name / "checkpoints"
        self.wait_for("a save", lambda: any(folder.glob("*.partial")), run)
        for pid in children(run.pid) if ranks else [run.pid]:
            kill(pid)
        self.assertNotEqual(run.wait(timeout=30), 0)
        for path in folder.glob("step-????????"):
            self.succeed("inspect", path, "--verify")

    def check_kill(self, ranks):
        self.kill_while_saving("killed", ranks)
        self.kill_while_saving("killed", ranks)
        newest = self.newest("killed")
        end = newest + 12
        result = self.train("killed", f"train.steps={end}", *self.ASYNC, ranks=ranks)
        self.assertRegex(result.err, rf"continuing from \S*/step-{newest:08} \(step {newest}\)")
        self.assertEqual(list((self.folder / "killed/checkpoints").glob("*.partial")), [])
        self.train("whole", f"train.steps={end}", *SAVES, ranks=ranks)
        self.assert_same_run("whole", "killed", end)

    def test_kill_9_while_saving(self):
        self.check_kill(ranks=0)

    def test_kill_9_of_two_ranks_while_saving(self):
        self.check_kill(ranks=2)

    def test_every_checkpoint_is_that_of_a_run_that_waits(self):
        self.train("waits", *SAVES, "checkpoint.every=1")
        result = self.train("goes-on", *SAVES, "checkpoint.every=1", "checkpoint.async=true")
        for step in range(1, 9):
            self.assertEqual(self.weights("waits", step), self.weights("goes-on", step), step)
        said = result.err.count("waiting for the checkpoint of step")
        self.assertLessEqual(said, 1, result.err)


class ResumeTest(ResumeCase):
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

    def test_what_a_kill_leaves_is_removed_before_the_next_save(self):
        """Also of a run that was killed just after its last one, which is otherwise left alone."""
        self.train("run")
        before = self.files("run")
        (self.folder / "run/checkpoints/step-00000004.partial").mkdir()
        latest = self.folder / "run/checkpoints/latest"
        latest.unlink()
        latest.symlink_to("step-00000004")
        self.assertIn("has already done its 8 steps", self.train("run").err)
        self.assertEqual(self.files("run"), before)
        self.assertEqual(latest.readlink().name, "step-00000008")
        (self.folder / "run/config.yaml.tmp-123").write_text("name: ")
        shutil.rmtree(self.checkpoint("run", 8))
        self.train("run")
        new = set(self.files("run")) - set(before)
        others = {name for name in new if "tfevents" not in name}
        self.assertEqual(others, {"flight/rank-00000.previous"})

    def test_stop_at_a_step_and_go_on(self):
        self.train("whole", CONSTANT, "eval.every=3")
        self.train("parts", CONSTANT, "eval.every=3", "train.steps=3")
        self.train("parts", CONSTANT, "eval.every=3")
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
        self.assertEqual(names, ["latest", "step-00000006", "step-00000008"])


if __name__ == "__main__":
    unittest.main()
