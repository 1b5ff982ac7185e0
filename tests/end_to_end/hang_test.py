# SPDX-License-Identifier: Apache-2.0
"""Ranks that stop, sleep or die: said in plain words, the run ended, nothing lost."""

import os
import signal
import time

from forja_testing import children, kill
from resume_test import CONSTANT, ResumeCase

LIMIT_S = 5
ENDLESS = [CONSTANT, "train.steps=99999", "checkpoint.every=20", "checkpoint.keep_last=2", "eval.every=0"]
WATCHED = [*ENDLESS, f"train.hang_timeout_minutes={LIMIT_S / 60}"]


class HangTest(ResumeCase):
    def begin(self, *overrides, ranks=2):
        """A run that has saved something: its process and those of its ranks, by rank."""
        run = self.start("train", "run.yaml", "output=run", *WATCHED, *overrides, ranks=ranks)
        self.wait_for("a checkpoint", lambda: self.newest("run") > 0, run)
        # Open MPI starts them in the order of their ranks.
        return run, children(run.pid)

    def end(self, run, limit_s=60):
        errors = run.stderr.read().decode(errors="replace")
        code = run.wait(timeout=limit_s)
        self.assertNotEqual(code, 0, errors)
        self.assertEqual(errors.count("the run is ended"), 1, errors)
        return errors

    def goes_on(self):
        newest = self.newest("run")
        result = self.train("run", *ENDLESS, f"train.steps={newest + 5}", ranks=2)
        self.assertIn(f"(step {newest})", result.err)

    def check_stopped(self, rank, *overrides):
        run, pids = self.begin(*overrides)
        os.kill(pids[rank], signal.SIGSTOP)
        begin = time.monotonic()
        errors = self.end(run)
        self.assertLess(time.monotonic() - begin, LIMIT_S + 15)
        self.assertRegex(errors, rf"rank {rank} on host \S+: no sign of life for \d+ s: its process {pids[rank]} is stopped"
                         if rank else r"rank 0 on host \S+: no sign of life for \d+ s: its process is stopped")
        self.assertIn("raise train.hang_timeout_minutes", errors)
        self.goes_on()
        return errors

    def test_a_stopped_rank_of_data_parallel_ranks(self):
        errors = self.check_stopped(1)
        self.assertRegex(errors, r"rank 0 waits for it, \d+ s by now, at \w+ \".+\"( of step \d+)?.* \(call \d+ of group \w+: ranks 0, 1\)")

    def test_a_stopped_rank_of_a_pipeline(self):
        self.check_stopped(1, "parallel.pp=2")

    def test_rank_zero_is_stopped(self):
        self.check_stopped(0)

    def test_a_rank_that_dies(self):
        run, pids = self.begin()
        kill(pids[1])
        errors = self.end(run)
        self.assertRegex(errors, rf"rank 1 on host \S+: its process {pids[1]} has ended without a word; last heard of in: \w+")
        self.goes_on()

    def test_a_job_that_is_suspended_goes_on(self):
        run, pids = self.begin()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(LIMIT_S + 2)
        before = self.newest("run")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        self.wait_for("more steps", lambda: self.newest("run") > before, run)
        time.sleep(LIMIT_S + 1)
        self.assertIsNone(run.poll())

    def test_the_flight_record_after_a_kill(self):
        run, pids = self.begin()
        for pid in pids:
            kill(pid)
        run.stderr.read()
        self.assertNotEqual(run.wait(timeout=30), 0)
        out = self.succeed("inspect", "run/flight").out
        for rank, pid in enumerate(pids):
            self.assertRegex(out, rf"rank {rank} on host \S+ \(process {pid}\): step \d+, ")
        self.assertRegex(out, r"step \d+: (forward of stage 0|optimizer|saving)")
        self.assertRegex(out, r"call \d+ of group \w+: all_reduce \"[\w ]+\", step \d+")
        # Another start keeps them once more.
        self.goes_on()
        self.assertTrue((self.folder / "run/flight/rank-00001.previous").exists())

    def test_off(self):
        run = self.start("train", "run.yaml", "output=run", *ENDLESS, "train.hang_timeout_minutes=0", ranks=2)
        self.wait_for("a checkpoint", lambda: self.newest("run") > 0, run)
        pids = children(run.pid)
        os.kill(pids[1], signal.SIGSTOP)
        time.sleep(LIMIT_S)
        self.assertIsNone(run.poll())
        for pid in pids:
            kill(pid)
        self.assertNotIn("the run is ended", run.stderr.read().decode(errors="replace"))


class UnwritableFlightRecordTest(ResumeCase):
    def test_the_run_goes_on(self):
        (self.folder / "run").mkdir()
        (self.folder / "run/flight").write_text("a file in the way")
        result = self.train("run", *ENDLESS, "train.steps=3", ranks=2)
        self.assertIn("no flight record is kept, the run goes on", result.err)
