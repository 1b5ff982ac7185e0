# SPDX-License-Identifier: Apache-2.0
"""From texts to tokens to samples."""

import gzip
import json
import unittest

from forja_testing import ForjaTest, some_text


class DataTest(ForjaTest):
    def tokenize(self, out, *inputs, options=()):
        self.succeed("tokenize", *inputs, "--tokenizer", "tokenizer.json", "--out", out, *options)
        manifest = json.loads((self.folder / out / "manifest.json").read_text())
        names = ["manifest.json", "tokenizer.json"]
        for shard in manifest["shards"]:
            names += [shard["name"] + ".documents", shard["name"] + ".tokens"]
        self.assertEqual(self.files(out), sorted(names))
        return manifest

    def tokens(self, out):
        shards = sorted((self.folder / out).glob("*.tokens"))
        return b"".join(shard.read_bytes() for shard in shards)

    def test_every_form_of_the_same_texts_gives_the_same_tokens(self):
        documents = [d + "\n" for d in some_text(20).rstrip("\n").split("\n%\n")]
        text = "%\n".join(documents)
        lines = "".join(json.dumps({"id": i, "body": d}) + "\n" for i, d in enumerate(documents))
        (self.folder / "a.txt").write_text(text, encoding="utf-8")
        (self.folder / "a.jsonl").write_text(lines, encoding="utf-8")
        (self.folder / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
        (self.folder / "folder/deep").mkdir(parents=True)
        for i, document in enumerate(documents):
            (self.folder / f"folder/deep/{i:02}.txt").write_text(document, encoding="utf-8")
        manifest = self.tokenize("expected", "a.txt", options=["--document-separator", "%"])
        self.assertEqual(manifest["num_documents"], 20)
        for out, inputs, options in (
            ("json", "a.jsonl", ["--text-field", "body"]),
            ("gzip", "a.txt.gz", ["--document-separator", "%"]),
            ("folders", "folder", []),
            ("threads", "a.txt", ["--document-separator", "%", "--threads", "1"]),
            ("shards", "a.txt", ["--document-separator", "%", "--shard-tokens", "500"]),
        ):
            with self.subTest(out=out):
                again = self.tokenize(out, inputs, options=options)
                self.assertEqual(self.tokens(out), self.tokens("expected"))
                self.assertEqual(again["num_text_bytes"], manifest["num_text_bytes"])
                self.assertEqual(len(again["shards"]) > 1, out == "shards")
                self.succeed("inspect", out, "--verify")

    def test_overwrite(self):
        self.tokenize("out", "text.txt")
        first = self.tokens("out")
        (self.folder / "short.txt").write_text("the quick fox")
        self.tokenize("out", "short.txt", options=["--overwrite"])
        self.assertLess(len(self.tokens("out")), len(first))

    def test_a_tokenizer_is_reproducible(self):
        for name in ("a.json", "b.json"):
            self.succeed("tokenizer", "train", "text.txt", "--vocab-size", 290, "--out", name)
        self.assertEqual(
            (self.folder / "a.json").read_bytes(), (self.folder / "b.json").read_bytes()
        )
        self.assertIn("290", self.succeed("inspect", "a.json").out)

    def test_training_does_not_depend_on_shards(self):
        options = ["--document-separator", "%"]
        self.tokenize("many", "text.txt", options=[*options, "--shard-tokens", "1000"])
        self.train("one")
        self.train("two", "data.train=many")
        self.assertEqual(self.weights("one", 8), self.weights("two", 8))

    def test_blends_masks_and_named_validation_sets(self):
        (self.folder / "other.txt").write_text(some_text(50, seed=2), encoding="utf-8")
        self.tokenize("other", "other.txt", options=["--document-separator", "%"])
        blend = [
            "data.train=[{path: data, weight: 3}, {path: other}]",
            "data.valid=[{name: first, path: data}, {name: second, path: other}]",
            "data.document_mask=true",
        ]
        self.train("alone", *blend)
        self.train("ranks", *blend, ranks=2)
        for a, b in zip(self.losses("alone"), self.losses("ranks")):
            self.assertLessEqual(abs(a - b), 1e-5 * a)
        evaluations = [line["eval"] for line in self.metrics("alone") if "eval" in line]
        self.assertEqual([sorted(e) for e in evaluations], [["first", "second"]] * 2)
        self.train("without", *blend, "data.document_mask=false")
        self.assertNotEqual(self.losses("alone"), self.losses("without"))


if __name__ == "__main__":
    unittest.main()
