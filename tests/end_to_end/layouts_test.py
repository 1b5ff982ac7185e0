# SPDX-License-Identifier: Apache-2.0
"""Tensor, pipeline and data parallelism under mpirun: the same losses, checkpoints for each other, clear refusals."""

import shutil
import subprocess
import unittest

from forja_testing import ENVIRONMENT, FORJA, ForjaTest, Result

LAYOUTS = {
    "tp": (2, ["parallel.tp=2"]),
    "pp": (2, ["parallel.pp=2"]),
    "zero": (2, ["parallel.zero=3"]),
    "tp_pp": (4, ["parallel.tp=2", "parallel.pp=2", "parallel.recompute=selective"]),
    "all": (8, ["parallel.tp=2", "parallel.pp=2", "parallel.schedule=zb_h1", "parallel.zero=2", "train.micro_batch_size=1"]),
}


class LayoutsTest(ForjaTest):
    def test_every_layout_trains_as_one_rank_does(self):
        self.train("alone")
        for name, (ranks, overrides) in LAYOUTS.items():
            with self.subTest(layout=name):
                result = self.train(name, *overrides, "train.verify_layout=true", ranks=ranks)
                self.assertIn("verify_layout: ", result.err)
                self.assert_same_losses(self.losses("alone"), self.losses(name), name)
                self.assert_same_losses(self.evaluations("alone"), self.evaluations(name), name)

    def test_checkpoints_of_any_layout_continue_in_any_other(self):
        self.train("whole")
        for name, (ranks, overrides) in LAYOUTS.items():
            with self.subTest(layout=name):
                self.train(name, *overrides, ranks=ranks)
                shutil.rmtree(self.checkpoint(name, 8))
                self.train(name)  # alone, from step 4
                self.assert_same_losses(self.losses("whole"), self.losses(name), f"{name}, then alone")
                shutil.rmtree(self.checkpoint(name, 8))
                self.train(name, *LAYOUTS["tp_pp"][1], ranks=4)
                self.assert_same_losses(self.losses("whole"), self.losses(name), f"{name}, then tp_pp")

    def test_a_resume_in_the_same_layout_is_bitwise(self):
        ranks, overrides = LAYOUTS["all"]
        self.train("whole", *overrides, ranks=ranks)
        self.train("parts", *overrides, ranks=ranks)
        shutil.rmtree(self.checkpoint("parts", 8))
        self.train("parts", *overrides, ranks=ranks)
        for a, b in zip(sorted(self.checkpoint("whole", 8).glob("*.safetensors")),
                        sorted(self.checkpoint("parts", 8).glob("*.safetensors")), strict=True):
            self.assertEqual(a.read_bytes(), b.read_bytes(), a.name)

    def test_generate_and_inspect_read_a_checkpoint_in_parts(self):
        self.train("parts", *LAYOUTS["all"][1], ranks=8)
        path = self.checkpoint("parts", 8)
        self.assertIn("every checksum is right", self.succeed("inspect", path, "--verify").out)
        self.assertTrue(self.succeed("generate", path, "--prompt", "the quick", "--max-new-tokens", "5").out)

    def test_verification_takes_fewer_ranks_where_the_batch_does_not_divide_over_all(self):
        # A batch of 8 in micro-batches of 2 divides over 4 ranks at most.
        result = self.train("all", "parallel.tp=4", "parallel.pp=2", "train.steps=1",
                            "train.verify_layout=true", ranks=8)
        self.assertIn("4 ranks = pp 1 x dp 4", result.err)

    def test_bf16(self):
        self.train("alone", "train.precision=bf16")
        self.train("tp_pp", "train.precision=bf16", "train.verify_layout=true", *LAYOUTS["tp_pp"][1], ranks=4)
        for a, b in zip(self.losses("alone"), self.losses("tp_pp")):
            self.assertLess(abs(a - b), 1e-2 * a)

    def test_bf16_moments_are_rounded_alike(self):
        moments = ["optimizer.state_dtype=bf16", "optimizer.stochastic_rounding=true"]
        self.train("alone", *moments)
        self.train("all", *moments, "train.verify_layout=true", *LAYOUTS["all"][1], ranks=8)
        self.assert_same_losses(self.losses("alone"), self.losses("all"), "bf16 moments")
        shutil.rmtree(self.checkpoint("all", 8))
        self.assertIn("(step 4), its bf16 moments converted to fp32", self.train("all").err)


class LayoutErrorsTest(ForjaTest):
    def refuse_layout(self, words, *overrides, ranks):
        self.refuse(words, "train", "run.yaml", "output=out", *overrides, ranks=ranks)
        self.assertFalse((self.folder / "out").exists(), "nothing was written")

    def test_factors_that_do_not_multiply_to_the_ranks(self):
        self.refuse_layout(["pp 1 x cp 1 x tp 2 = 2 does not divide 3 ranks"], "parallel.tp=2", ranks=3)

    def test_shards_that_do_not_divide(self):
        self.refuse_layout(["dp_shard 2 does not divide dp 3"], "parallel.zero=1", "parallel.dp_shard=2",
                           "train.global_batch_size=9", "train.micro_batch_size=1", ranks=3)

    def test_shards_of_nothing(self):
        self.refuse_layout(["dp_shard", "nothing is divided under zero 0"], "parallel.dp_shard=2", ranks=2)

    def test_a_schedule_that_the_first_batches_of_a_ramp_are_too_small_for(self):
        self.refuse_layout(["dualpipe_v", "found 2"], "parallel.pp=2", "parallel.schedule=dualpipe_v",
                           "model.num_hidden_layers=4", "train.micro_batch_size=1",
                           "train.batch_ramp={start: 2, steps: 4}", ranks=2)

    def test_a_batch_that_does_not_divide(self):
        self.refuse_layout(["8 sequences does not divide over dp = 3"], ranks=3)

    def test_heads_that_do_not_divide(self):
        self.refuse_layout(["parallel.tp 3 does not divide model.num_attention_heads 4"], "parallel.tp=3", ranks=3)

    def test_a_sequence_that_does_not_divide(self):
        self.refuse_layout(["does not divide the 31 tokens of a micro-batch"], "parallel.tp=2",
                           "data.sequence_length=31", "train.micro_batch_size=1", ranks=2)

    def test_more_stages_than_layers(self):
        self.refuse_layout(["4 pipeline stages need at least as many layers, the model has 2"], "parallel.pp=4",
                           ranks=4)

    def test_stage_layers_that_do_not_fit(self):
        self.refuse_layout(["stage_layers [2, 1] gives 3 layers in 2 stages; the model has 2"], "parallel.pp=2",
                           "parallel.stage_layers=[2,1]", ranks=2)

    def test_too_few_micro_batches(self):
        self.refuse_layout(["dualpipe_v"], "parallel.pp=2", "parallel.schedule=dualpipe_v",
                           "model.num_hidden_layers=4", "train.micro_batch_size=4", ranks=2)

    def test_schedule_files(self):
        (self.folder / "misses.csv").write_text("0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n")
        (self.folder / "hangs.csv").write_text("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n")
        for file, words in (("misses.csv", ["0B1"]), ("hangs.csv", ["waits"])):
            with self.subTest(file=file):
                self.refuse_layout(words, "parallel.pp=2", f"parallel.schedule={file}",
                                   "train.micro_batch_size=4", ranks=2)

    def mixed(self, first, second):
        """Two ranks that were started differently."""
        command = ["mpirun", "--oversubscribe", "-n", "1", *first, ":", "-n", "1", *second]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, env=ENVIRONMENT, timeout=60, check=False)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def test_ranks_with_different_configurations(self):
        common = [FORJA, "train", "run.yaml", "output=out"]
        result = self.mixed([*common, "parallel.tp=2"], [*common, "parallel.pp=2"])
        self.assert_refused(result, "the ranks do not have the same configuration")
        self.assertFalse((self.folder / "out").exists())

    def test_ranks_with_different_binaries(self):
        other = self.folder / "forja"
        shutil.copy(FORJA, other)
        with other.open("ab") as file:
            file.write(b"another build")
        result = self.mixed([FORJA, "train", "run.yaml", "output=out"], [str(other), "train", "run.yaml", "output=out"])
        self.assert_refused(result, "the ranks do not have the same forja binary")
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    unittest.main()
