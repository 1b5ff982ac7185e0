# SPDX-License-Identifier: Apache-2.0
"""Learning from preference pairs: a run's YAML names a file of them."""

import json
import random
import shutil
import unittest

from forja_testing import ForjaTest

RUN = [
    "init.from=hf",
    "data.train=pairs.jsonl",
    "data.valid=pairs.jsonl",
    "data.sequence_length=48",
    "data.samples.prompt=plain",
    "lora.rank=4",
    "preference.loss=dpo",
    "preference.beta=0.5",
    "train.global_batch_size=4",
    "train.micro_batch_size=2",
    "train.steps=20",
    "checkpoint.every=10",
    "eval.every=10",
]


def some_pairs(count):
    """Answers that name a dog are preferred to those that name a fox."""
    draw = random.Random(1)
    for _ in range(count):
        words = draw.choices("the quick lazy over kiwi veloz come".split(), k=4)
        yield {"prompt": " ".join(words), "chosen": " dog dog", "rejected": " fox fox"}


class PreferenceTest(ForjaTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        trainer = cls.pretrain("train.steps=40")
        trainer.succeed("convert", "model", "hf")
        with (cls.prepared / "pairs.jsonl").open("w", encoding="utf-8") as file:
            for pair in some_pairs(60):
                file.write(json.dumps(pair) + "\n")

    def preferences(self, name):
        return [line["preference"] for line in self.metrics(name) if "preference" in line]

    def test_it_learns_what_is_preferred(self):
        result = self.train("alone", *RUN)
        self.assertIn("60 pairs in ", result.err)
        self.assertIn("accuracy ", result.err)
        self.assertAlmostEqual(self.losses("alone")[0], 0.6931, delta=2e-4)
        first, last = self.preferences("alone")[0], self.preferences("alone")[-1]
        self.assertAlmostEqual(first["margin"], 0.0, delta=1e-4)
        self.assertGreater(last["margin"], 0.1)
        self.assertGreater(last["accuracy"], 0.8)
        # Stopped and gone on, also on several ranks.
        shutil.copytree(self.folder / "alone", self.folder / "parts")
        shutil.rmtree(self.checkpoint("parts", 20))
        self.train("parts", *RUN, "parallel.tp=2", ranks=4)
        self.assert_same_losses(self.losses("alone"), self.losses("parts"), "four ranks")

    def test_what_does_not_go_together(self):
        train = ("train", "run.yaml", "output=no")
        self.refuse(["lora.rank"], *train, *RUN, "lora.rank=0")
        self.refuse(["holds no preference pairs", "dpo"], *train, *RUN, "data.train=data")
        self.refuse(["preference.loss"], *train, *RUN, "preference.loss=none")
        self.refuse(["loss", "none, dpo, ipo"], *train, *RUN, "preference.loss=dpoo")
        self.train("tuned", *RUN, "train.steps=1")
        self.refuse(["merge", "reference"], *train, *RUN, f"init.from={self.checkpoint('tuned', 1)}")
        self.assertFalse((self.folder / "no/checkpoints").exists())


if __name__ == "__main__":
    unittest.main()
