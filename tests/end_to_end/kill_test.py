# SPDX-License-Identifier: Apache-2.0
"""Kills in a row, saves included: the run goes on by itself, to the bits of one that nobody killed.

FORJA_KILLS says how many (6), FORJA_KILLS_SEED which (1), FORJA_KILLS_REPORT names a file for the
counts, as a table.
"""

import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import unittest
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from forja_testing import ENVIRONMENT, command_line, kill
from resume_test import CONSTANT, ResumeCase

KILLS = int(os.environ.get("FORJA_KILLS", "6"))
SEED = int(os.environ.get("FORJA_KILLS_SEED", "1"))
REPORT = os.environ.get("FORJA_KILLS_REPORT")

RANKS = 2
EVERY, KEEP_LAST = 2, 3
SETTINGS = [
    CONSTANT,
    "model.dropout=0.1",
    f"checkpoint.every={EVERY}",
    f"checkpoint.keep_last={KEEP_LAST}",
    "eval.every=20",
    "train.log_every=50",
]
LAYOUTS = {
    "dp 2, ZeRO 1": ["parallel.zero=1"],
    "tp 2": ["parallel.tp=2"],
    "pp 2": ["parallel.pp=2"],
    "dp 2, ZeRO 3, begun on one rank": ["parallel.zero=3"],
}
BEGUN_ALONE = "begun on one rank"

# What is killed: one rank; mpirun and every rank; mpirun by SIGTERM, which gives ranks a second.
KINDS = ("rank", "job", "term")
MOMENTS = {
    "start": "from the launch on, by chance",
    "chance": "after a save, by chance",
    "folder": "when a save has a folder",
    "manifest": "when a save has its manifest",
    "name": "when a save has its name",
}


@dataclass
class Kill:
    layout: str
    kind: str
    moment: str
    asynchronous: bool
    steps_lost: int
    in_save: bool  # a save had its folder and no name when the signal was sent ...
    cut_off: bool  # ... and never got it
    after_name: bool  # what follows the name, `latest` and the removal of the oldest, was cut off


class KillsInARowTest(ResumeCase):
    def setUp(self):
        super().setUp()
        # What Open MPI leaves behind when it is killed ends with the test.
        self.shared_memory = Path(tempfile.mkdtemp(prefix="forja-", dir="/dev/shm"))
        self.addCleanup(shutil.rmtree, self.shared_memory, ignore_errors=True)
        self.environment = {
            **ENVIRONMENT,
            "OMPI_MCA_btl_vader_backing_directory": str(self.shared_memory),
            "OMPI_MCA_orte_tmpdir_base": str(self.shared_memory),
        }
        self.draw = random.Random(SEED)
        self.kills = []

    def test_kills_in_a_row(self):
        for i, layout in enumerate(LAYOUTS):
            with self.subTest(layout=layout):
                of_layout = KILLS // len(LAYOUTS) + (i < KILLS % len(LAYOUTS))
                self.check_layout(f"run-{i}", layout, of_layout)
        if REPORT:
            Path(REPORT).write_text(table(self.kills), encoding="utf-8")
        print(table(self.kills))

    def check_layout(self, name, layout, num_kills):
        if BEGUN_ALONE in layout:
            self.train(name, *SETTINGS, f"train.steps={3 * EVERY}")
            shutil.copytree(self.folder / name, self.folder / f"{name}-whole", symlinks=True)
        kinds = self.mixed(KINDS, num_kills)
        moments = self.mixed(list(MOMENTS), num_kills)
        progressed = True
        for kind, moment in zip(kinds, moments):
            # An attempt that reached no checkpoint is followed by one that does.
            moment = moment if progressed or moment != "start" else "chance"
            before = self.newest(name)
            self.kills.append(self.kill_once(name, layout, kind, moment))
            self.check_what_is_left(name)
            progressed = self.newest(name) > before
        self.check_end(name, layout)

    def mixed(self, values, count):
        out = []
        while len(out) < count:
            out += self.draw.sample(values, len(values))
        return out[:count]

    # One attempt

    def kill_once(self, name, layout, kind, moment):
        asynchronous = self.draw.random() < 0.5
        newest, done = self.newest(name), self.steps_done(name)
        stale = self.partial(name)
        log = self.folder / f"{name}.log"
        run = self.launch(name, log, layout, asynchronous)
        pids = self.wait_for_moment(name, run, log, moment)
        in_save = bool(self.fresh_saves(name, stale))
        self.strike(name, run, kind, pids)
        self.assertNotEqual(run.wait(timeout=60), 0, log.read_text())
        self.wait_for("the end of every process", lambda: not self.processes(name))
        self.check_continued(log, newest, reached_a_save=self.newest(name) > newest)
        cut_off = self.fresh_saves(name, stale)
        return Kill(
            layout=layout,
            kind=kind,
            moment=moment,
            asynchronous=asynchronous,
            steps_lost=self.steps_lost(name, done),
            in_save=in_save or bool(cut_off),
            cut_off=bool(cut_off),
            after_name=self.partial(name).keys() - stale.keys() > cut_off,
        )

    def arguments(self, name, layout, *overrides):
        output = f"output={self.folder / name}"
        return ["train", "run.yaml", output, *SETTINGS, *LAYOUTS[layout], *overrides]

    def launch(self, name, log, layout, asynchronous):
        mode = f"checkpoint.async={'true' if asynchronous else 'false'}"
        arguments = self.arguments(name, layout, "train.steps=99999", mode)
        with open(log, "wb") as errors:
            run = subprocess.Popen(
                command_line(arguments, RANKS),
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=self.environment,
            )
        self.addCleanup(lambda: [kill(pid) for pid in self.processes(name)])
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        return run

    def wait_for_moment(self, name, run, log, moment):
        """Returns the processes that are to be killed."""
        if moment == "start":
            self.sleep(self.draw.uniform(0, 1.5), run, log)
        else:
            before = self.newest(name)
            self.wait_alive("a save", run, log, lambda: self.newest(name) > before)
            self.sleep(self.draw.uniform(0, 0.5), run, log)  # not always the same save
        self.wait_alive("a rank", run, log, lambda: len(self.processes(name)) > 1)
        pids = self.processes(name)
        if moment in ("folder", "manifest", "name"):
            newest = self.newest(name)
            self.wait_alive(moment, run, log, lambda: self.is_at(name, moment, newest))
            time.sleep(self.draw.choice((0, 0, 0.0005, 0.002)))
        return pids

    def is_at(self, name, moment, newest):
        folder = self.folder / name / "checkpoints"
        if moment == "name":
            return self.newest(name) > newest
        file = "manifest.json" if moment == "manifest" else ""
        return any((path / file).exists() for path in folder.glob("step-*.partial"))

    def wait_alive(self, what, run, log, condition):
        end = time.monotonic() + 60
        while not condition():
            if run.poll() is not None or time.monotonic() > end:
                self.fail(f"waited for {what}: {log.read_text()}")

    def sleep(self, seconds, run, log):
        time.sleep(seconds)
        self.assertIsNone(run.poll(), f"it ended: {log.read_text()}")

    def strike(self, name, run, kind, pids):
        """At once: `pids` are those of a little before."""
        if kind == "term":
            run.send_signal(signal.SIGTERM)
            return
        if kind == "rank":
            pids = [self.draw.choice([pid for pid in pids if pid != run.pid])]
        self.draw.shuffle(pids)
        while pids:
            for pid in pids:
                kill(pid)
            pids = self.processes(name) if kind == "job" else []  # begun meanwhile

    def processes(self, name):
        """Those of a run that are alive, mpirun among them."""
        output = f"output={self.folder / name}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and output in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended
                pass
        return found

    # What is left

    def partial(self, name):
        """What is not whole. A later save may have the same names, but not the same times."""
        found = {}
        for path in (self.folder / name / "checkpoints").glob("*.partial"):
            try:
                info = path.lstat()
                found[path] = (info.st_ino, info.st_ctime_ns)
            except FileNotFoundError:  # it has got its name
                pass
        return found

    def fresh_saves(self, name, stale):
        """The folders of saves that have begun since `stale` was looked at, and have no name."""
        newest = self.newest(name)
        return {
            path
            for path, marks in self.partial(name).items()
            if stale.get(path) != marks
            and path.name.startswith("step-")
            and int(path.name[5:13]) > newest
        }

    def steps_done(self, name):
        """The lines of the log that are steps."""
        log = self.folder / name / "metrics.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        return [line for line in lines if line.endswith("\n") and '"lr"' in line]

    def steps_lost(self, name, before):
        done = self.steps_done(name)
        return len(done) - self.newest(name) if done != before else 0  # else: it did none

    def check_continued(self, log, newest, reached_a_save):
        text = log.read_text()
        continued = rf"continuing from \S*/step-{newest:08} \(step {newest}\)"
        if newest == 0:
            self.assertNotIn("continuing from", text)
        elif reached_a_save:
            self.assertRegex(text, continued)
        self.assertNotIn("cannot be continued from", text)

    def check_what_is_left(self, name):
        checkpoints = self.folder / name / "checkpoints"
        named = list(checkpoints.glob("step-????????"))
        for path in named:
            self.succeed("inspect", path, "--verify")
        self.assertLessEqual(len(named), KEEP_LAST + 1)
        self.assertLessEqual(len(self.partial(name)), 3, "garbage piles up")
        latest = checkpoints / "latest"
        if latest.is_symlink():
            self.assertIn(latest.resolve(), [path.resolve() for path in named])
        left = list((self.folder / name).glob("*.tmp-*"))
        self.assertLessEqual(len(left), 2, f"garbage piles up: {left}")

    def check_end(self, name, layout):
        newest = self.newest(name)
        end = (newest // EVERY + KEEP_LAST + 1) * EVERY
        steps = f"train.steps={end}"
        result = self.succeed(*self.arguments(name, layout, steps), ranks=RANKS)
        (self.folder / f"{name}.log").write_text(result.err)
        self.check_continued(self.folder / f"{name}.log", newest, reached_a_save=True)
        whole = f"{name}-whole"
        self.succeed(*self.arguments(whole, layout, steps), ranks=RANKS)
        self.assert_same_run(whole, name, end)
        expected, found = (self.checkpoint(n, end) / "manifest.json" for n in (whole, name))
        self.assertEqual(expected.read_bytes(), found.read_bytes())
        self.assertEqual(self.files(f"{whole}/checkpoints"), self.files(f"{name}/checkpoints"))
        self.assertEqual(list((self.folder / name).glob("*.tmp-*")), [])


def table(kills):
    lines = [
        "| layout | kills | one rank | whole job | SIGTERM | in a save | which it cut off |"
        " just after one | steps lost: median | most |",
        "| --- " * 10 + "|",
    ]
    for layout in [*LAYOUTS, "all"]:
        of_layout = [k for k in kills if layout in (k.layout, "all")]
        if not of_layout:
            continue
        kinds = Counter(k.kind for k in of_layout)
        lost = [k.steps_lost for k in of_layout]
        cells = [
            layout,
            len(of_layout),
            *(kinds[kind] for kind in KINDS),
            sum(k.in_save for k in of_layout),
            sum(k.cut_off for k in of_layout),
            sum(k.after_name for k in of_layout),
            f"{statistics.median(lost):g}",
            max(lost),
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines.append("")
    lines.append("| moment of the kill | kills | in a save | asynchronous | steps lost: most |")
    lines.append("| --- " * 5 + "|")
    for moment in MOMENTS:
        of_moment = [k for k in kills if k.moment == moment]
        if not of_moment:
            continue
        saves, modes = sum(k.in_save for k in of_moment), sum(k.asynchronous for k in of_moment)
        lost = max(k.steps_lost for k in of_moment)
        lines.append(f"| {MOMENTS[moment]} | {len(of_moment)} | {saves} | {modes} | {lost} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    unittest.main()
