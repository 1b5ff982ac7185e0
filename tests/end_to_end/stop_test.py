# SPDX-License-Identifier: Apache-2.0
"""Runs that a scheduler stops: saved, exit code 75, and gone on with."""

import os
import shutil
import signal
import time
import unittest

from forja_testing import children
from resume_test import CONSTANT, ResumeCase

STOPPED = 75
ENDLESS = ["train.steps=99999", CONSTANT, "checkpoint.every=0", "eval.every=0"]


class StopTest(ResumeCase):
    def stop(self, name, number, ranks=0, to_launcher=False):
        """Sends a signal to a run that has done some steps; returns what it said and where it stopped."""
        log = self.folder / name / "metrics.jsonl"
        run = self.start("train", "run.yaml", f"output={name}", *ENDLESS, ranks=ranks)
        before = log.read_text().count("\n") if log.exists() else 0
        self.wait_for("some steps", lambda: log.exists() and log.read_text().count("\n") > before + 5, run)
        for pid in children(run.pid) if ranks and not to_launcher else [run.pid]:
            os.kill(pid, number)
        errors = run.stderr.read().decode()
        self.assertEqual(run.wait(timeout=60), STOPPED, errors)
        return errors, max(line["step"] for line in self.metrics(name))

    def check(self, number, word, **options):
        errors, step = self.stop("stopped", number, **options)
        self.assertRegex(errors, rf"stopped by {word}.* after step {step}, which is saved: start the run again")
        self.assertTrue(self.checkpoint("stopped", step).is_dir(), errors)
        result = self.train("stopped", CONSTANT, f"train.steps={step + 5}", "eval.every=0")
        self.assertIn(f"(step {step})", result.err)
        self.train("whole", CONSTANT, f"train.steps={step + 5}", "eval.every=0")
        self.assertTrue(self.weights("whole", step + 5) == self.weights("stopped", step + 5))
        self.assertEqual(self.losses("whole"), self.losses("stopped"))

    def test_sigterm(self):
        self.check(signal.SIGTERM, "SIGTERM")

    def test_sigusr1(self):
        self.check(signal.SIGUSR1, "SIGUSR1")

    def test_one_of_two_ranks(self):
        """A signal that reaches one rank stops all after the same step."""
        run = self.start("train", "run.yaml", "output=run", *ENDLESS, ranks=2)
        log = self.folder / "run/metrics.jsonl"
        self.wait_for("some steps", lambda: log.exists() and log.read_text().count("\n") > 5, run)
        os.kill(children(run.pid)[1], signal.SIGTERM)
        errors = run.stderr.read().decode()
        self.assertEqual(run.wait(timeout=60), STOPPED, errors)
        self.assertEqual(errors.count("stopped by SIGTERM"), 1, errors)
        self.assertTrue(self.checkpoint("run", max(line["step"] for line in self.metrics("run"))).is_dir())

    def test_sigterm_while_a_checkpoint_is_written(self):
        """The stop waits for it, and for its own."""
        saves = [*ENDLESS, "checkpoint.every=2", "checkpoint.async=true"]
        run = self.start("train", "run.yaml", "output=run", *saves, ranks=2)
        folder = self.folder / "run/checkpoints"
        self.wait_for("a save", lambda: any(folder.glob("*.partial")), run)
        for pid in children(run.pid):
            os.kill(pid, signal.SIGTERM)
        errors = run.stderr.read().decode()
        self.assertEqual(run.wait(timeout=60), STOPPED, errors)
        last = max(line["step"] for line in self.metrics("run"))
        self.assertTrue(self.checkpoint("run", last).is_dir(), errors)
        self.assertEqual(list(folder.glob("*.partial")), [])
        for path in folder.iterdir():
            self.succeed("inspect", path, "--verify")

    def test_usr1_through_mpirun(self):
        errors, step = self.stop("run", signal.SIGUSR1, ranks=2, to_launcher=True)
        self.assertIn("stopped by SIGUSR1", errors)
        self.assertTrue(self.checkpoint("run", step).is_dir())

    def test_time_limit(self):
        begin = time.monotonic()
        result = self.forja("train", "run.yaml", "output=run", *ENDLESS, "train.time_limit_minutes=0.05", ranks=2)
        self.assertEqual(result.code, STOPPED, result)
        self.assertIn("stopped by train.time_limit_minutes", result.err)
        self.assertLess(time.monotonic() - begin, 30)
        step = max(line["step"] for line in self.metrics("run"))
        self.assertTrue(self.checkpoint("run", step).is_dir())
        self.refuse(["time_limit_minutes"], "train", "run.yaml", "train.time_limit_minutes=-1")

    def test_a_stop_that_cannot_save_is_a_failure(self):
        run = self.start("train", "run.yaml", "output=run", *ENDLESS)
        log = self.folder / "run/metrics.jsonl"
        self.wait_for("some steps", lambda: log.exists() and log.read_text().count("\n") > 5, run)
        shutil.rmtree(self.folder / "run/checkpoints")
        (self.folder / "run/checkpoints").write_text("no folder")
        os.kill(run.pid, signal.SIGTERM)
        errors = run.stderr.read().decode()
        self.assertEqual(run.wait(timeout=60), 1, errors)
        self.assertIn("error: ", errors)


if __name__ == "__main__":
    unittest.main()
