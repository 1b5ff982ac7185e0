# SPDX-License-Identifier: Apache-2.0
"""A rank that is slower than the others is named."""

import os
import signal
import time
import unittest
from pathlib import Path

from forja_testing import children
from resume_test import ResumeCase

ENDLESS = ["train.steps=99999", "checkpoint.every=0", "eval.every=0", "train.log_every=1000"]


def rank_of(pid):
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
            return int(entry.partition(b"=")[2])
    return None


class StragglersTest(ResumeCase):
    def test_a_rank_that_is_stopped_most_of_the_time(self):
        run = self.start("train", "run.yaml", "output=run", *ENDLESS, "train.compare_ranks_every=40", ranks=2)
        lines = self.folder / "run/ranks.jsonl"
        metrics = self.folder / "run/metrics.jsonl"
        self.wait_for("the first step", lambda: metrics.exists() and metrics.read_text().count("\n") > 1, run)
        slow = next(pid for pid in children(run.pid) if rank_of(pid) == 1)
        deadline = time.monotonic() + 120
        while not (lines.exists() and '"slow":[1]' in lines.read_text()):
            self.assertLess(time.monotonic(), deadline, lines.read_text() if lines.exists() else "no line")
            os.kill(slow, signal.SIGSTOP)
            time.sleep(0.02)
            os.kill(slow, signal.SIGCONT)
            time.sleep(0.005)
        for pid in children(run.pid):
            os.kill(pid, signal.SIGTERM)
        errors = run.stderr.read().decode()
        self.assertEqual(run.wait(timeout=60), 75, errors)
        self.assertRegex(errors, r"1 of 2 ranks works slowly: rank 1 \(\S+\) .* most in \w+; each step loses up to")
        self.succeed("report", "run", "--html", "report.html")
        self.assertIn('id="ranks"', (self.folder / "report.html").read_text())


if __name__ == "__main__":
    unittest.main()
