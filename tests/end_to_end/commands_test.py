# SPDX-License-Identifier: Apache-2.0
"""Help, versions, and wrong command lines."""

import unittest

from forja_testing import ForjaTest

COMMANDS = [
    "train",
    "generate",
    "chat",
    "tokenize",
    "tokenizer",
    "plan",
    "inspect",
    "report",
    "doctor",
]


class CommandsTest(ForjaTest):
    def test_help_everywhere(self):
        whole = self.succeed("--help").out
        for command in COMMANDS:
            self.assertIn(f"  {command} ", whole)
            self.assertIn("Usage: ", self.succeed(command, "--help").out)
        self.assertIn("--vocab-size", self.succeed("tokenizer", "train", "--help").out)

    def test_version(self):
        self.assertRegex(self.succeed("--version").out, r"^forja \d+\.\d+\.\d+ \(\S+\)\n$")

    def test_doctor(self):
        out = self.succeed("doctor", ranks=2).out
        self.assertIn("2 ranks on 1 host, started by mpirun", out)
        self.assertEqual(out.count("launch  "), 1, "one rank prints")
        self.assertRegex(out, r"matmul +fp32 \d+ GFLOP/s")

    def test_wrong_command_lines(self):
        for words, arguments in {
            ("A subcommand is required",): [],
            ("unknown command trian", "did you mean train?"): ["trian", "run.yaml"],
            ("unknown command zzz", "known: train, generate"): ["zzz"],
            ("unknown command trein", "did you mean train?"): ["tokenizer", "trein"],
            ("unknown option --dry-rum", "--dry-run"): ["train", "run.yaml", "--dry-rum"],
            ("unknown option --gredy", "--greedy"): ["generate", "x", "--gredy=1"],
            ("config is required",): ["train"],
            ("--vocab-size is required",): ["tokenizer", "train", "text.txt", "--out", "x"],
            ("--vocab-size", "many"): [
                "tokenizer",
                "train",
                "text.txt",
                "--vocab-size=many",
                "--out=x",
            ],
            ("--ranks", "1 or greater", "0"): ["train", "run.yaml", "--dry-run", "--ranks=0"],
            ("--ranks", "--dry-run"): ["train", "run.yaml", "--ranks=2"],
        }.items():
            with self.subTest(arguments=arguments):
                result = self.refuse(words, *arguments)
                self.assertIn("Run with --help for usage.", result.err)

    def test_wrong_command_lines_under_mpirun_are_told_once(self):
        for arguments in (["train", "--dry"], ["trian"], ["train"]):
            with self.subTest(arguments=arguments):
                self.refuse([], *arguments, ranks=2)

    def test_dry_run_prints_the_plan_and_writes_nothing(self):
        before = self.files()
        alone = self.succeed("train", "run.yaml", "--dry-run", "train.seed=7").out
        for line in (
            "  seed: 7\n",
            "parameters      34720\n",
            "dp 1 x micro_batch_size 2 x 4 micro-batches",
        ):
            self.assertIn(line, alone)
        self.assertRegex(alone, r"\n  total +\S+ \S+B  \(\d+ bytes\)\n")
        planned = self.succeed("train", "run.yaml", "--dry-run", "--ranks=4").out
        self.assertIn("dp 4 x micro_batch_size 2 x 1 micro-batches", planned)
        launched = self.succeed("train", "run.yaml", "--dry-run", ranks=4).out
        # The workspace depends on the threads of a rank, which are fewer where four share a host.
        self.assertEqual(launched.split("memory")[0], planned.split("memory")[0], "printed once")
        self.refuse(["does not divide"], "train", "run.yaml", "--dry-run", "--ranks=3")
        self.assertEqual(self.files(), before)

    def test_a_dry_run_reads_back_as_a_run(self):
        plan = self.succeed("train", "run.yaml", "--dry-run", "output=again").out
        (self.folder / "again.yaml").write_text(plan.split("\nparameters ")[0] + "\n")
        self.succeed("train", "again.yaml")
        self.train("run")
        self.assertEqual(self.losses("again"), self.losses("run"))


if __name__ == "__main__":
    unittest.main()
