# SPDX-License-Identifier: Apache-2.0
"""Wrong configurations: exit code 2, one line that says what, where and what to do, no run
directory."""

import unittest

from forja_testing import ForjaTest


class BadConfigTest(ForjaTest):
    def refuse_overrides(self, cases, ranks=0):
        before = self.files()
        for overrides, words in cases.items():
            with self.subTest(overrides=overrides):
                arguments = ["train", "run.yaml", "output=out", *overrides.split("; ")]
                self.refuse(words, *arguments, ranks=ranks)
        self.assertEqual(self.files(), before, "nothing is written")

    def refuse_text(self, text, *words):
        data = text if isinstance(text, bytes) else text.encode()
        with self.subTest(text=text):
            (self.folder / "bad.yaml").write_bytes(data)
            self.refuse(words, "train", "bad.yaml")
            self.assertFalse((self.folder / "runs").exists(), "nothing is written")

    def test_keys(self):
        start = "name: bad\ntrain:\n  steps: 3\n"
        where = 'bad.yaml:4:3: unknown key "train.global_batch_sise"'
        self.refuse_text(
            f"{start}  global_batch_sise: 4\n", where, 'did you mean "global_batch_size"?'
        )
        self.refuse_text(f"{start}modle: x\n", 'bad.yaml:4:1: unknown key "modle"', '"model"')
        self.refuse_text(f"{start}xyzzy: 1\n", 'unknown key "xyzzy"', "known keys: ", "optimizer")
        self.refuse_text(f"{start}name: again\n", 'bad.yaml:4:1: key "name" is given twice')
        self.refuse_text(
            f"{start}optimizer: {{schedule: {{nam: cosine}}}}",
            "bad.yaml:4:24",
            '"optimizer.schedule.nam"',
            '"name"',
        )
        self.refuse_text(
            f"{start}data: {{train: [{{path: a, wieght: 1}}]}}",
            "bad.yaml:4:26",
            '"data.train[0].wieght"',
            '"weight"',
        )

    def test_types_and_ranges(self):
        start = "name: bad\ntrain:\n  steps: 3\n"
        self.refuse_text(
            "train: {steps: many}",
            "bad.yaml:1:16: train.steps: expected a whole number",
            'found "many"',
        )
        self.refuse_text("train: {steps: 1.5}", "expected a whole number", '"1.5"')
        self.refuse_text("train: {steps: [1]}", "expected a whole number", "found a list")
        self.refuse_text("train: 3", "bad.yaml:1:8: train: expected a mapping", '"3"')
        self.refuse_text(
            f"{start}  seed: -1\n", "bad.yaml:4:9: train.seed", "0 or greater, found -1"
        )
        self.refuse_text(f"{start}  precision: fp8\n", "one of fp32, bf16", "found fp8")
        self.refuse_text(f"{start}optimizer: {{betas: [0.9]}}", "bad.yaml:4:20", "two numbers")
        self.refuse_text(
            f"{start}optimizer: {{stochastic_rounding: true}}",
            "bad.yaml:4:34: optimizer.stochastic_rounding: is of bf16 moments, state_dtype is fp32",
            "set state_dtype to bf16",
        )
        self.refuse_text(f"{start}data: {{document_mask: maybe}}", "true or false", '"maybe"')
        self.refuse_text(f"{start}model: [1]", "bad.yaml:4:8: model: expected a mapping", "a list")

    def test_files_that_are_no_configuration(self):
        self.refuse_text("", "give steps or tokens")
        self.refuse_text("just words", "expected a mapping of keys, found text")
        self.refuse_text("name: [x\n", "bad.yaml:2:1: ")
        self.refuse_text("train:\n\tsteps: 3\n", "bad.yaml:2:")
        self.refuse_text(b"name: x\nseed: \xff\n", "bad.yaml:2: not UTF-8: wrong byte 0xff")
        self.refuse_text((self.folder / "data/shard-00000.tokens").read_bytes(), "bad.yaml:")
        self.refuse(["missing.yaml", "No such file"], "train", "missing.yaml")
        self.refuse(["data", "not a regular file"], "train", "data")

    def test_overrides(self):
        self.refuse_overrides(
            {
                "train.stepz=3": [
                    'command line (train.stepz=3): unknown key "train.stepz"',
                    '"steps"',
                ],
                "steps": ['expected key=value, found "steps"'],
                "=3": ['expected key=value, found "=3"'],
                "train.steps=[1": ["command line (train.steps=[1)"],
                "name=a/b": ["expected a name without slashes"],
                "name=a\udcffb": ["not UTF-8"],
            }
        )

    def test_models(self):
        self.refuse_overrides(
            {
                "model.hidden_size=-32": ["expected between 1 and 16777216, found -32"],
                "model.vocab_size=-1": ["model.vocab_size", "between 1 and 16777216, found -1"],
                "model.num_hidden_layers=0": ["between 1 and 10000, found 0"],
                "model.num_attention_heads=5": ["hidden_size 32 is not divisible by 5 heads"],
                "model.num_key_value_heads=3": ["4 heads are not divisible by 3 key-value heads"],
                "model.hidden_size=4096": ["model.head_dim", "256 at most, found 1024"],
                "model.head_dim=7": ["model.head_dim", "even one, found 7"],
                "model.model_type=bert": ["expected one of gpt2, llama", '"bert"'],
                "model.rope={rope_type: ntk}": ["one of default, linear, llama3, yarn", "ntk"],
                "model.dropout=1": ["less than 1, found 1"],
                "model=missing.yaml": ["no such file", "missing.yaml"],
                "model=text.txt": ["text.txt"],
                "model.position=learned; data.sequence_length=100": ["100", "64 positions"],
            }
        )

    def test_a_model_file(self):
        (self.folder / "model.yaml").write_text("model_type: llama\nhiden_size: 32\n")
        self.refuse_overrides(
            {"model=model.yaml": ['model.yaml:2:1: unknown key "model.hiden_size"']}
        )

    def test_sizes_that_do_not_fit(self):
        self.refuse_overrides(
            {
                "train.global_batch_size=7": [
                    "global_batch_size 7 = dp 1 x micro_batch_size 2",
                    "7 seq",
                ],
                "train.steps=0": ["give steps or tokens"],
                "train.tokens=100": ["give steps or tokens, not both"],
                "model.vocab_size=299": [
                    "has 300 ids",
                    "vocab_size is 299",
                    "set vocab_size to 300",
                ],
                "optimizer.schedule.min_lr=1": ["min_lr 1", "above lr 0.01"],
                "model.vocab_size=16000000; model.hidden_size=8192; model.num_attention_heads=64": [
                    "not enough memory",
                    "TiB a rank",
                ],
            }
        )
        self.refuse_overrides(
            {
                "train.global_batch_size=7": [
                    "batch of 7 sequences does not divide over dp = 2 ranks"
                ],
                "train.micro_batch_size=3": ["global_batch_size 8 = dp 2 x micro_batch_size 3 x"],
            },
            ranks=2,
        )

    def test_told_once_under_mpirun(self):
        self.refuse_overrides({"train.stepz=3": ['unknown key "train.stepz"']}, ranks=4)
        self.refuse(["missing.yaml"], "train", "missing.yaml", ranks=2)

    def test_initial_weights(self):
        self.refuse_overrides(
            {
                "init.from=missing": [
                    "init.from: ",
                    "missing is not there",
                    "Hugging Face directory",
                ],
                "init.from=data": ["init.from: ", "neither of the two"],
            }
        )


if __name__ == "__main__":
    unittest.main()
