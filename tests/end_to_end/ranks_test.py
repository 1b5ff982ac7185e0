# SPDX-License-Identifier: Apache-2.0
"""The same run alone and on any number of ranks."""

import unittest

from forja_testing import ForjaTest


class RanksTest(ForjaTest):
    def test_any_number_of_ranks_gives_the_same_losses(self):
        self.train("alone")
        expected = self.losses("alone")
        self.assertEqual(len(expected), 8)
        self.assertLess(expected[-1], expected[0] - 1.0, "it learns")
        for ranks in (1, 2, 4):
            name = f"ranks{ranks}"
            result = self.train(name, ranks=ranks)
            self.assertIn(f"dp {ranks}", result.err)
            self.assert_same_losses(expected, self.losses(name), name)
            self.assert_same_losses(self.evaluations("alone"), self.evaluations(name), name)
            self.assertEqual(
                [line["tokens"] for line in self.metrics("alone") if "tokens" in line],
                [line["tokens"] for line in self.metrics(name) if "tokens" in line],
            )

    def test_one_rank_of_mpirun_is_bitwise_a_run_alone(self):
        self.train("alone")
        self.train("one", ranks=1)
        self.assertEqual(self.weights("alone", 8), self.weights("one", 8))

    def test_a_checkpoint_of_two_ranks_continues_alone(self):
        self.train("whole", ranks=2)
        self.train("parts", ranks=2)
        for file in self.checkpoint("parts", 8).iterdir():
            file.unlink()
        self.checkpoint("parts", 8).rmdir()
        self.train("parts")
        self.assert_same_losses(self.losses("whole"), self.losses("parts"), "continued alone")

    def test_bf16_runs_on_two_ranks(self):
        self.train("alone", "train.precision=bf16")
        self.train("two", "train.precision=bf16", ranks=2)
        for a, b in zip(self.losses("alone"), self.losses("two")):
            self.assertLess(abs(a - b), 1e-2 * a)


if __name__ == "__main__":
    unittest.main()
