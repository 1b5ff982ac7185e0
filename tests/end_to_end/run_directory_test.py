# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: config.yaml, run.json, metrics.jsonl, tensorboard/, checkpoints/,
report.html."""

import json
import os
import re
import unittest

import tensorboard
from forja_testing import ForjaTest, children, kill

TIMES = {"data", "forward", "backward", "recompute", "wait_tp", "wait_pp", "wait_dp", "optimizer", "other"}
NUMBERS = {"loss", "lr", "grad_norm", "step_time_s", "tokens_per_s", "mfu", "hfu", "mfu_full_attention"}
COUNTS = {"step", "tokens", "memory_bytes"}


class RunDirectoryTest(ForjaTest):
    def test_files(self):
        self.train("run")
        names = self.files("run")
        events = [
            n for n in names if re.fullmatch(r"tensorboard/events\.out\.tfevents\.\d+\..+", n)
        ]
        self.assertEqual(len(events), 1, names)
        steps = [f"checkpoints/step-{step:08}" for step in (4, 8)]
        inside = ("config.yaml", "manifest.json", "shard-00000.safetensors")
        expected = [
            "checkpoints",
            "config.yaml",
            "flight",
            "flight/rank-00000",
            "lock",
            "metrics.jsonl",
            "run.json",
            "tensorboard",
            *events,
        ]
        expected.append("checkpoints/latest")
        expected += steps + [f"{step}/{name}" for step in steps for name in inside]
        self.assertEqual(names, sorted(expected))

    def test_config_reads_back(self):
        self.train("run")
        resolved = (self.folder / "run/config.yaml").read_text()
        self.assertEqual((self.checkpoint("run", 8) / "config.yaml").read_text(), resolved)
        (self.folder / "copy.yaml").write_text(resolved)
        again = self.succeed("train", "copy.yaml", "--dry-run").out
        self.assertTrue(again.startswith(resolved), "resolving again changes nothing")
        self.assertIn("has already done its 8 steps", self.succeed("train", "run/config.yaml").err)

    def test_run_json(self):
        self.train("run", ranks=2)
        run = json.loads((self.folder / "run/run.json").read_text())
        self.assertEqual(run["format_version"], 1)
        self.assertEqual(run["ranks"], 2)
        self.assertEqual(len(run["hosts"]), 2)
        self.assertEqual(run["launcher"], "mpirun")
        self.assertEqual(run["model"]["parameters"], 34720)
        self.assertEqual(run["precision"], "fp32")
        self.assertGreater(run["peak_flops"], 1e6)
        self.assertRegex(run["started"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def test_metrics(self):
        self.train("run", ranks=2)
        lines = self.metrics("run")
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4, 4, 5, 6, 7, 8, 8])
        for line in lines:
            if "eval" in line:
                self.assertEqual(set(line), {"step", "eval"})
                self.assertEqual(set(line["eval"]["valid"]), {"loss", "perplexity", "tokens"})
                continue
            self.assertEqual(set(line), NUMBERS | COUNTS | {"skipped", "time"})
            self.assertEqual(line["tokens"], line["step"] * 8 * 32)
            self.assertIs(line["skipped"], False)
            self.assertEqual(set(line["time"]), TIMES)
            self.assertAlmostEqual(sum(line["time"].values()), line["step_time_s"], places=9)
            for key in NUMBERS | COUNTS:
                self.assertIsInstance(line[key], int if key in COUNTS else (int, float), key)
                self.assertGreaterEqual(line[key], 0, key)

    def test_tensorboard(self):
        self.train("run")
        scalars = tensorboard.scalars(self.folder / "run/tensorboard")
        self.assertEqual(sorted(scalars["loss/train"]), list(range(1, 9)))
        self.assertEqual(sorted(scalars["loss/valid"]), [4, 8])
        for line in self.metrics("run"):
            if "loss" in line:
                self.assertAlmostEqual(scalars["loss/train"][line["step"]], line["loss"], places=5)
        for tag in ("optimizer/lr", "optimizer/grad_norm", "speed/tokens_per_s", "speed/mfu"):
            self.assertEqual(len(scalars[tag]), 8, tag)

    def test_manifest(self):
        self.train("run", ranks=2)
        manifest = json.loads((self.checkpoint("run", 8) / "manifest.json").read_text())
        self.assertEqual(manifest["format"], "forja-checkpoint")
        self.assertEqual(manifest["format_version"], 3)
        self.assertEqual(manifest["state"]["step"], 8)
        self.assertEqual(manifest["state"]["samples"], 64)
        self.assertEqual(len(manifest["shards"]), 2)
        listed = {t["name"] for shard in manifest["shards"] for t in shard["tensors"]}
        self.assertEqual(listed, {name for name, _, _ in self.weights("run", 8)})

    def test_inspect(self):
        self.train("run")
        for path in ("run", self.checkpoint("run", 8), "run/checkpoints/latest"):
            out = self.succeed("inspect", path, "--verify").out
            self.assertIn("checkpoint of step 8: 2048 tokens", out)
            self.assertIn("34720 parameters; every checksum is right", out)

    def test_retention_and_the_latest(self):
        self.train("run", "checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.keep_every=3")
        names = [p.name for p in sorted((self.folder / "run/checkpoints").iterdir())]
        self.assertEqual(names, ["latest", *(f"step-{step:08}" for step in (3, 6, 7, 8))])
        latest = self.folder / "run/checkpoints/latest"
        self.assertEqual(os.readlink(latest), "step-00000008")
        one, two = (
            self.succeed("generate", path, "--prompt", "the", "--max-new-tokens", 5, "--greedy").out
            for path in (latest, self.checkpoint("run", 8))
        )
        self.assertEqual(one, two)
        result = self.train("tuned", f"init.from={latest}", "train.steps=1")
        self.assertIn("starting from the weights of", result.err)

    def test_two_starts_at_once(self):
        first = self.start("train", "run.yaml", "output=run", "train.steps=1000000", ranks=2)
        self.wait_for("steps", lambda: (self.folder / "run/metrics.jsonl").exists(), first)
        holder = (self.folder / "run/lock").read_text().strip()
        self.assertRegex(holder, r"^process \d+ on \S+$")
        for ranks in (0, 2):
            self.refuse(
                ("run is being written by another start of the run", holder),
                *("train", "run.yaml", "output=run", "train.steps=1000000"),
                ranks=ranks,
            )
        self.assertIsNone(first.poll(), "the first one goes on")
        for process in (*children(first.pid), first.pid):
            kill(process)
        first.wait()
        self.train("run", ranks=2)

    def test_snapshots_are_in_the_plan(self):
        def bytes_of(row, *overrides):
            out = self.succeed("train", "run.yaml", "--dry-run", *overrides).out
            return int(re.search(rf"^  {row} .*\((\d+) bytes\)", out, re.M).group(1))

        copy = bytes_of("snapshot", "checkpoint.async=true")
        self.assertGreaterEqual(copy, 34720 * 12)
        self.assertLess(copy, 34720 * 12 * 1.1)
        self.assertEqual(bytes_of("snapshot"), 0, "on the CPU")
        self.assertEqual(bytes_of("total", "checkpoint.async=true"), bytes_of("total") + copy)

    def test_report_is_self_contained(self):
        self.train("run")
        self.succeed("report", "run")
        page = (self.folder / "run/report.html").read_text(encoding="utf-8")
        self.assertIn("<!doctype html>", page[:100].lower())
        self.assertIn("prefers-color-scheme", page)
        for fetched in (r"(?:src|href|action|data)\s*=\s*[\"']?(?:https?:)?//", r"@import"):
            self.assertIsNone(re.search(fetched, page), fetched)
        self.assertIsNone(re.search(r"url\(\s*[\"']?(?!data:|#)", page))
        self.assertIsNone(re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|\bimport\(", page))
        self.succeed("report", "run", "--html", "elsewhere.html")
        self.assertEqual((self.folder / "elsewhere.html").read_text(encoding="utf-8"), page)

    def test_log_of_a_run(self):
        err = self.train("run", ranks=2).err
        self.assertEqual(err.count("step 1/8"), 1, "one rank prints")
        self.assertRegex(err, r"step 8/8  loss \d\.\d+ .*tok/s  MFU \S+ %  ETA")
        self.assertRegex(err, r"step 4: valid loss \d\.\d+, perplexity")
        self.assertIn("done: 8 steps, 2048 tokens", err)
        self.assertNotIn("\r", err, "plain lines where there is no terminal")
        quiet = self.train("quiet", "train.log_every=4").err
        self.assertEqual(len(re.findall(r"^step \d+/8 ", quiet, re.M)), 3, quiet)  # 1, 4, 8


if __name__ == "__main__":
    unittest.main()
