# SPDX-License-Identifier: Apache-2.0
"""Datasets and tokenizers that are missing, damaged, foreign or do not belong together; texts that
cannot be tokenized."""

import gzip
import json
import shutil
import unittest

from forja_testing import ForjaTest


class BadDatasetTest(ForjaTest):
    def refuse_data(self, words, *overrides):
        with self.subTest(words=words):
            self.refuse(words, "train", "run.yaml", "output=out", *overrides)
            self.assertFalse((self.folder / "out").exists(), "nothing is written")

    def broken(self):
        """A copy of the dataset to be damaged."""
        shutil.rmtree(self.folder / "broken", ignore_errors=True)
        shutil.copytree(self.folder / "data", self.folder / "broken")
        return self.folder / "broken"

    def test_missing(self):
        self.refuse_data(["missing", "forja tokenize"], "data.train=missing")
        self.refuse_data(["missing", "forja tokenize"], "data.valid=missing")
        self.refuse_data(["data.train", "forja tokenize"], "data.train=[]")
        self.refuse_data(["no tokenizer", "missing"], "data.tokenizer=missing")
        self.refuse_data(["18248 tokens", "= 30001"], "data.sequence_length=30000")

    def test_foreign(self):
        self.train("run")
        for path in ("run", "text.txt"):
            self.refuse_data([path, "is not a dataset", "forja tokenize"], f"data.train={path}")
        self.refuse_data(
            ["run/metrics.jsonl:1:", "none that is recognised", "forja tokenize"],
            "data.train=run/metrics.jsonl",
        )
        self.refuse_data(["tokenizer.json:1: expected an array"], "data.train=tokenizer.json")
        checkpoint = "run/checkpoints/step-00000008"
        self.refuse_data(
            [f"{checkpoint}/manifest.json", "not the manifest"], f"data.train={checkpoint}"
        )

    def test_truncated_or_gone(self):
        tokens = self.broken() / "shard-00000.tokens"
        size = tokens.stat().st_size
        tokens.write_bytes(tokens.read_bytes()[:-2])
        words = [
            "broken/shard-00000.tokens",
            f"expected {size} bytes, found {size - 2}",
            "truncated",
        ]
        self.refuse_data(words, "data.train=broken")
        self.refuse_data(words, "data.valid=broken")
        tokens.unlink()
        self.refuse_data(["broken/shard-00000.tokens", "No such file"], "data.train=broken")
        documents = self.broken() / "shard-00000.documents"
        documents.write_bytes(b"")
        self.refuse_data(["shard-00000.documents", "found 0: "], "data.train=broken")

    def test_damaged_manifest(self):
        manifest = self.broken() / "manifest.json"
        whole = json.loads(manifest.read_text())
        for text, words in {
            "": ["damaged manifest"],
            "{": ["damaged manifest"],
            "[]": ["not the manifest of a dataset"],
            json.dumps({**whole, "format": "other"}): ["not the manifest of a dataset"],
            json.dumps({**whole, "version": 99}): ["format version 99", "tokenize the texts again"],
            json.dumps({**whole, "num_tokens": 7}): ["the manifest says 7"],
            json.dumps({**whole, "dtype": "fp8"}): ['"dtype" is "fp8"'],
        }.items():
            manifest.write_text(text)
            self.refuse_data(["broken/manifest.json: ", *words], "data.train=broken")
        manifest.unlink()
        self.refuse_data(["broken is not a dataset", "no manifest.json"], "data.train=broken")

    def test_damaged_tokens_end_the_run_before_it_learns_them(self):
        tokens = self.broken() / "shard-00000.tokens"
        tokens.write_bytes(b"\xff" * tokens.stat().st_size)
        result = self.forja("train", "run.yaml", "output=out", "data.train=broken")
        self.assertEqual((result.code, len(result.errors)), (2, 1), result)
        self.assertIn("holds the id 65535", result.errors[0])
        self.assertEqual(self.files("out/checkpoints"), [])
        self.refuse(["shard-00000.tokens", "the id 65535"], "inspect", "broken")
        tokens.write_bytes(bytes(tokens.stat().st_size))
        self.refuse(["shard-00000.tokens", "checksum"], "inspect", "broken", "--verify")

    def test_tokenizer_that_does_not_match(self):
        separator = ["--document-separator", "%"]
        new = ["tokenizer", "train", "text.txt", "--vocab-size", 280, "--out", "other.json"]
        self.succeed(*new, *separator)
        self.succeed(
            "tokenize", "text.txt", "--tokenizer", "other.json", "--out", "other", *separator
        )
        words = ["made by another tokenizer", "hash", "tokenize the texts again"]
        self.refuse_data(["data", "other.json", *words], "data.tokenizer=other.json")
        self.refuse_data(["other", "tokenizer.json", *words], "data.valid=other")
        words = ["data and", "other were made by different tokenizers"]
        self.refuse_data(words, "data.train=[{path: data}, {path: other}]", "data.tokenizer=")
        self.refuse_data(words, "data.valid=other", "data.tokenizer=")

    def test_inspect(self):
        (self.folder / "folder").mkdir()
        self.refuse(["folder", "expected a run"], "inspect", "folder")
        self.refuse(["missing", "no such file"], "inspect", "missing")
        self.refuse(["text.txt is no tokenizer", "tokenizer.json"], "inspect", "text.txt")
        out = self.succeed("inspect", "data", "--verify").out
        self.assertIn("tokens            18248 ", out)
        self.assertIn("checksums, document ends and ids are right", out)

    def test_report(self):
        (self.folder / "folder").mkdir()
        self.refuse(["missing is not a directory"], "report", "missing")
        self.refuse(["folder has no metrics.jsonl"], "report", "folder")
        (self.folder / "folder/metrics.jsonl").write_text("no metrics\n")
        self.refuse(["folder/metrics.jsonl", "no line of metrics"], "report", "folder")
        self.assertEqual(self.files("folder"), ["metrics.jsonl"])


class BadTextTest(ForjaTest):
    """Both commands that read texts refuse them in the same words."""

    def refuse_text(self, name, content, *words):
        with self.subTest(name=name, content=content[:20] if content else None):
            if content is not None:
                (self.folder / name).write_bytes(content)
            before = self.files()
            self.refuse(words, "tokenize", name, "--tokenizer", "tokenizer.json", "--out", "out")
            self.refuse(words, "tokenizer", "train", name, "--vocab-size", 300, "--out", "out.json")
            self.assertEqual(self.files(), before, "nothing is written")

    def test_invalid_utf8(self):
        self.refuse_text(
            "a.txt", b"good\nbad \xff\n", "a.txt:2", "invalid UTF-8", "0xff", "offset 9"
        )
        self.refuse_text("a.txt", b"cut \xc3", "a.txt:1", "invalid UTF-8")
        self.refuse_text("a.txt", b"long \xc0\xaf", "a.txt:1", "invalid UTF-8")
        self.refuse_text("a.txt", b"half \xed\xa0\x80", "a.txt:1", "invalid UTF-8")
        self.refuse_text("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "a.jsonl:2", "UTF-8")

    def test_empty(self):
        self.refuse_text("empty.txt", b"", "no text")
        self.refuse_text("blank.txt", b" \n\n\t\n", "no text")
        self.refuse_text("empty.jsonl", b"", "no text")
        (self.folder / "folder").mkdir()
        self.refuse_text("folder", None, "folder", "no .txt or .jsonl file")

    def test_json_lines(self):
        self.refuse_text("a.jsonl", b'{"text": "x"}\n{"text": ', "a.jsonl:2", "not JSON")
        self.refuse_text("a.jsonl", b'{"body": "x"}\n', 'no field "text"', "body", "--text-field")
        self.refuse_text("a.jsonl", b'{"text": 3}\n', "a.jsonl:1", '"text" is not text')
        self.refuse_text("a.jsonl", b"[1]\n", "a.jsonl:1")

    def test_compressed(self):
        whole = gzip.compress(b"some words to be compressed\n" * 100)
        self.refuse_text("a.txt.gz", whole[:-20], "a.txt.gz", "truncated")
        self.refuse_text("a.txt.gz", b"not compressed", "a.txt.gz", "damaged gzip")
        self.refuse_text("a.txt.zst", b"not compressed", "a.txt.zst", "damaged zstd")

    def test_files(self):
        self.refuse_text("missing.txt", None, "no file or folder missing.txt")
        self.refuse_text("a.pdf", b"%PDF", "a.pdf: expected a .txt, .jsonl or .json file")

    def test_arguments_of_tokenize(self):
        before = self.files()
        tokenizer = ["--tokenizer", "tokenizer.json"]
        for words, arguments in {
            ("data exists already", "--overwrite"): [*tokenizer, "--out=data"],
            ("no tokenizer missing",): ["--tokenizer=missing", "--out=out"],
            ("text.txt is no tokenizer",): ["--tokenizer=text.txt", "--out=out"],
            ("special token", "<x>"): [*tokenizer, "--out=out", "--end-token=<x>"],
            ("-1 threads",): [*tokenizer, "--out=out", "--threads=-1"],
            ("shard of 0 tokens",): [*tokenizer, "--out=out", "--shard-tokens=0"],
            ("cannot write /proc/out",): [*tokenizer, "--out=/proc/out"],
            ("cannot write text.txt/out", "is not a directory"): [*tokenizer, "--out=text.txt/out"],
        }.items():
            with self.subTest(arguments=arguments):
                self.refuse(words, "tokenize", "text.txt", *arguments)
        (self.folder / "folder").mkdir()
        (self.folder / "folder/thesis.odt").write_text("years of work")
        words = ["folder is not a dataset: it is not overwritten"]
        self.refuse(words, "tokenize", "text.txt", *tokenizer, "--out=folder", "--overwrite")
        self.assertEqual(self.files(), sorted([*before, "folder", "folder/thesis.odt"]))

    def test_arguments_of_tokenizer_train(self):
        before = self.files()
        for words, arguments in {
            ("vocabulary of 256", "at least 257"): ["--vocab-size=256", "--out=out.json"],
            ("vocabulary of -1", "at least 257"): ["--vocab-size=-1", "--out=out.json"],
            ("no folder missing",): ["--vocab-size=300", "--out=missing/out.json"],
            ("data: it is a directory",): ["--vocab-size=300", "--out=data"],
        }.items():
            with self.subTest(arguments=arguments):
                self.refuse(words, "tokenizer", "train", "text.txt", *arguments)
        self.assertEqual(self.files(), before)


if __name__ == "__main__":
    unittest.main()
