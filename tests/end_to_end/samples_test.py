# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning data: files of samples to datasets, and to runs that name them."""

import gzip
import json
import unittest

from forja_testing import ForjaTest

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def chat(question, answer):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


class SamplesTest(ForjaTest):
    def setUp(self):
        super().setUp()
        self.records = [chat(f"kiwi {i}", " the quick fox" * (i % 3 + 1)) for i in range(60)]
        self.write_lines("chats.jsonl", self.records)
        (self.folder / "chat.jinja").write_text(CHATML, encoding="utf-8")
        self.write_config(
            "run.yaml",
            data={
                "train": "chats.jsonl",
                "valid": "chats.jsonl",
                "sequence_length": 64,
                "samples": {"chat_template": "chat.jinja"},
            },
        )

    def write_lines(self, name, records):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (self.folder / name).write_text(text, encoding="utf-8")

    def tokenize(self, name, out, *options):
        arguments = ["tokenize", name, "--tokenizer", "tokenizer.json", "--out", out]
        return self.succeed(*arguments, "--samples", "auto", *options)

    def test_chats_become_masked_samples(self):
        options = ["--chat-template", "chat.jinja"]
        self.assertIn("60 samples", self.tokenize("chats.jsonl", "one", *options).err)
        shown = self.succeed("inspect", "one", "--verify").out
        self.assertIn("assistant\n      [[ the quick fox", shown)
        rows = self.succeed("inspect", "one", "--sequence-length", 64).out
        self.assertRegex(rows, r"60 samples in \d+ rows of 64, \d+\.\d % filled")
        with gzip.open(self.folder / "chats.json.gz", "wt", encoding="utf-8") as file:
            json.dump(self.records, file, indent=1)
        self.tokenize("chats.json.gz", "two", *options, "--threads", "3")
        manifests = [(self.folder / name / "manifest.json").read_bytes() for name in ("one", "two")]
        self.assertEqual(*manifests)

    def test_a_run_names_a_file_and_ranks_share_its_dataset(self):
        alone = self.train("alone")
        self.assertIn("60 samples in", alone.err)
        self.assertIn("% filled", alone.err)
        self.train("ranks", ranks=2)
        for a, b in zip(self.losses("alone"), self.losses("ranks")):
            self.assertLessEqual(abs(a - b), 1e-5 * a)
        self.tokenize("chats.jsonl", "made", "--chat-template", "chat.jinja")
        self.train("made_before", "data.train=made", "data.valid=made")
        self.assertEqual(self.losses("made_before"), self.losses("alone"))
        # A second start, and one that goes on, find what the first has made.
        again = self.train("ranks", "train.steps=10", ranks=2)
        self.assertNotIn("kept in", again.err)
        self.assertEqual(len(self.losses("ranks")), 10)

    def test_faults(self):
        self.write_lines("chats.jsonl", self.records[:9] + [{"messages": 3}] + self.records)
        self.refuse(["chats.jsonl:10:"], "train", "run.yaml", "output=out")
        self.refuse(["chats.jsonl:10:"], "train", "run.yaml", "output=out", ranks=2)
        self.assertFalse((self.folder / "out").exists(), "nothing is written")
        skipping = self.train("skips", "data.samples.skip_malformed=true")
        self.assertIn("1 record left out; the first: ", skipping.err)
        self.write_lines("chats.jsonl", self.records)
        self.refuse(
            ["chats.jsonl:1:", "needs a chat template"],
            "train",
            "run.yaml",
            "output=out",
            "data.samples.chat_template=",
        )
        self.refuse(
            ["data.samples.packing", "best_fit"],
            "train",
            "run.yaml",
            "output=out",
            "data.samples.packing=some",
        )
        arguments = ["tokenize", "chats.jsonl", "--tokenizer", "tokenizer.json", "--out", "out"]
        self.refuse(["--samples"], *arguments, "--learn", "all")
        fields = ["--samples", "alpaca", "--prompt-field", "q"]
        self.refuse(["--prompt-field", "not alpaca"], *arguments, *fields)
        self.refuse(["no field \"text\""], *arguments)
        self.assertFalse((self.folder / "out").exists(), "nothing is written")

    def test_a_directory_with_its_own_template(self):
        model = self.folder / "model"
        model.mkdir()
        (self.folder / "tokenizer.json").rename(model / "tokenizer.json")
        config = {"chat_template": CHATML, "eos_token": "<|endoftext|>"}
        (model / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        own = ["data.samples.chat_template="]
        self.train("run", "data.tokenizer=model", *own)
        # The model that a run begins with brings its tokenizer and template along.
        self.succeed("convert", "run", "hf")
        self.train("tuned", "init.from=hf", "data.tokenizer=", *own)
        self.succeed("generate", "tuned", "--prompt", "kiwi", "--max-new-tokens", 2)
        self.refuse(["data.tokenizer is missing"], "train", "run.yaml", "data.tokenizer=", *own)


if __name__ == "__main__":
    unittest.main()
