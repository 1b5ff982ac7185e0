# SPDX-License-Identifier: Apache-2.0
"""The pipeline schedules: their numbers, their picture, schedules from CSV."""

import re
import unittest
import xml.etree.ElementTree as ElementTree

from forja_testing import ForjaTest

SVG = "{http://www.w3.org/2000/svg}"


class PlanTest(ForjaTest):
    def plan(self, *arguments):
        return self.succeed("plan", "run.yaml", *arguments, "--schedule").out

    def refuse_plan(self, words, *arguments):
        before = self.files()
        with self.subTest(arguments=arguments):
            self.refuse(words, "plan", "run.yaml", *arguments, "--schedule")
            self.assertEqual(self.files(), before, "nothing is written")

    def test_numbers(self):
        out = self.plan("parallel.pp=4", "train.micro_batch_size=1")
        for line in (
            "layout          4 ranks = pp 4 x dp 1 x cp 1 x tp 1\n",
            "batch           8 sequences = dp 1 x micro_batch_size 1 x 8 micro-batches\n",
            "schedule        1f1b\n",
            "stages          4 on 4 ranks\n",
            "makespan        33 ",
            "bubble          27.3 % of the ranks' time (gpipe and 1f1b: 27.3 %)\n",
        ):
            self.assertIn(line, out)
        self.assertRegex(out, r"\n  0 +0 +72\.7 % +4 +4 +8\n")
        self.assertRegex(out, r"\n  3 +3 +72\.7 % +1 +1 +8\n")

    def test_every_schedule(self):
        for name, stages, makespan in (
            ("gpipe", 4, "33"),
            ("1f1b", 4, "33"),
            ("interleaved_1f1b", 8, "28.5"),
            ("zb_h1", 4, "27"),
            ("zb_v", 8, "25.5"),
            ("dualpipe_v", 8, "22"),
        ):
            with self.subTest(name=name):
                out = self.plan(
                    "parallel.pp=4",
                    "train.micro_batch_size=1",
                    f"parallel.schedule={name}",
                    f"parallel.virtual_stages={stages // 4}",
                )
                self.assertIn(f"\nschedule        {name}\n", out)
                self.assertIn(f"\nstages          {stages} on 4 ranks\n", out)
                self.assertIn(f"\nmakespan        {makespan} ", out)

    def test_one_rank_and_more_ranks(self):
        self.assertIn("bubble          0.0 %", self.plan())
        out = self.plan("parallel.pp=2", "parallel.tp=2", "--ranks=8")
        self.assertIn("layout          8 ranks = pp 2 x dp 2 x cp 1 x tp 2\n", out)
        self.assertIn("8 sequences = dp 2 x micro_batch_size 2 x 2 micro-batches\n", out)

    def test_picture(self):
        overrides = ["parallel.pp=4", "train.micro_batch_size=1", "parallel.schedule=dualpipe_v"]
        result = self.succeed("plan", "run.yaml", *overrides, "--schedule", "--svg", "a.svg")
        self.assertIn("wrote a.svg", result.err)
        text = (self.folder / "a.svg").read_text(encoding="utf-8")
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertNotIn("http", text.replace(SVG[1:-1], ""), "nothing from elsewhere")
        root = ElementTree.fromstring(text)
        self.assertEqual(root.tag, SVG + "svg")
        words = [element.text for element in root.iter(SVG + "text")]
        for word in ("rank 0", "rank 3", "forward", "backward", "input gradient"):
            self.assertIn(word, words)
        caption = root.find(SVG + "title").text
        self.assertRegex(caption, r"^dualpipe_v: 8 stages on 4 ranks, 8 micro-batches; bubble ")
        self.assertTrue(" ".join(filter(None, words)).endswith(caption), "written below as well")
        # Every forward of each of 8 stages, and every gradient: a cell.
        cells = {"f": 0, "b": 0, "i": 0, "w": 0}
        for path in root.iter(SVG + "path"):
            cells[path.get("class").split()[1]] += path.get("d").count("z")
        self.assertEqual(cells["f"], 64)
        self.assertEqual(cells["b"] + cells["i"], 64)
        self.assertEqual(cells["i"], cells["w"])
        numbers = [word for word in words if re.fullmatch(r"\d", word or "")]
        self.assertGreaterEqual(len(numbers), 128)

    def test_csv(self):
        overrides = ["parallel.pp=2", "parallel.schedule=zb_v"]
        self.plan(*overrides, "--csv=mine.csv")
        lines = (self.folder / "mine.csv").read_text().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0].split(",")[0], "0F0")
        again = ["parallel.pp=2", "parallel.virtual_stages=2", "parallel.schedule=mine.csv"]
        numbers = self.plan(*overrides).split("makespan")[1]
        self.assertEqual(self.plan(*again).split("makespan")[1], numbers)
        # Relative to the file that names it.
        (self.folder / "below").mkdir()
        (self.folder / "mine.csv").rename(self.folder / "below/mine.csv")
        self.write_config(
            "below/run.yaml", parallel={"pp": 2, "virtual_stages": 2, "schedule": "mine.csv"}
        )
        out = self.succeed("plan", "below/run.yaml", "--schedule").out
        self.assertEqual(out.split("makespan")[1], numbers)

    def test_wrong_csv(self):
        arguments = ["parallel.pp=2", "train.micro_batch_size=4", "parallel.schedule=bad.csv"]
        first, second = "0F0,0F1,0B0,0B1\n", "1F0,1B0,1F1,1B1\n"
        for text, words in {
            first + "1F0,1B0,,1G1,1B1\n": ['bad.csv:2:4: "1G1" is no action', "like 0F1"],
            first + "1F0,1B0,1F1\n": ["bad.csv:2: 1B1 ", "is missing on rank 1"],
            first + "1F0,1F0,1B0,1F1,1B1\n": ["bad.csv:2:2: 1F0 is there twice"],
            first + "0F1," + second: ["bad.csv:2:1: 0F1 is on rank 1, but stage 0 is on rank 0"],
            first: ["a row for each of 2 ranks, found 1"],
            "0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n": [
                "deadlocks: rank 0 stands at 0B0, which waits for 1B0 of rank 1; rank 1 stands at "
                "1F1, which waits for 0F1 of rank 0"
            ],
        }.items():
            (self.folder / "bad.csv").write_text(text)
            self.refuse_plan(words, *arguments)

    def test_wrong_arguments(self):
        self.refuse_plan(["nowhere.csv"], "parallel.schedule=nowhere.csv")
        self.refuse_plan(
            ["parallel.schedule", "found 1f2b", "did you mean 1f1b?"], "parallel.schedule=1f2b"
        )
        self.refuse_plan(
            ["interleaved_1f1b needs a multiple of its 3 ranks", "found 4"],
            "parallel.pp=3",
            "parallel.virtual_stages=2",
            "parallel.schedule=interleaved_1f1b",
        )
        self.refuse_plan(
            ["dualpipe_v needs at least two micro-batches", "6, found 4"],
            "parallel.pp=3",
            "parallel.schedule=dualpipe_v",
        )
        self.refuse_plan(["1f1b has 1 stage a rank", "virtual_stages 2"], "parallel.virtual_stages=2")
        self.refuse_plan(["parallel.pp 4 x cp 1 x tp 1 = 4 does not divide 6 ranks"], "parallel.pp=4", "--ranks=6")
        self.refuse_plan(["--ranks", "1 or greater"], "--ranks=0")
        self.refuse_plan(["does not divide"], "--ranks=3")
        self.refuse_plan(["nowhere/a.svg", "no folder nowhere"], "--svg=nowhere/a.svg")
        self.refuse_plan(["too large to simulate", "pp 3000000000"], "parallel.pp=3000000000")
        self.refuse(["--schedule is required"], "plan", "run.yaml")


if __name__ == "__main__":
    unittest.main()
