# SPDX-License-Identifier: Apache-2.0
"""forja generate and forja chat."""

import json
import shutil
import unittest

from forja_testing import ASSETS, VOCABULARY, ForjaTest
from sentencepiece import read_llama2c_tokenizer, sentencepiece_model

PROMPTS = ["the quick fox", "el veloz", "murciélago", "noche"]


class GenerationTest(ForjaTest):
    """Texts of a model that has learned a little; one model for all tests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pretrain("train.steps=120", "checkpoint.every=0")

    def generate(self, *arguments, model="model"):
        return self.succeed("generate", model, "--max-new-tokens", 20, *arguments).out

    def test_greedy_is_reproducible(self):
        one = self.generate("--prompt", "the quick", "--greedy")
        self.assertTrue(one.startswith("the quick"), one)
        self.assertTrue(one.endswith("\n"))
        self.assertRegex(one[9:], r" (the|quick|fox|and|lazy|dog|over|jumps|el|veloz|kiwi|come)\b")
        self.assertEqual(one, self.generate("--prompt", "the quick", "--greedy", "--seed", 5))
        self.assertEqual(one, self.generate("--prompt", "the quick", "--temperature", 0))
        self.assertEqual(one, self.generate("--prompt", "the quick", "--top-k", 1))
        checkpoint = self.checkpoint("model", 120)
        self.assertEqual(one, self.generate("--prompt", "the quick", "--greedy", model=checkpoint))

    def test_the_seed_decides(self):
        texts = [self.generate("--prompt", "el", "--seed", seed) for seed in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def continuations(self, out):
        parts = out.split("--- ")[1:]
        self.assertEqual([p.split("\n")[0] for p in parts], [str(i + 1) for i in range(len(parts))])
        return [p.split("\n", 1)[1] for p in parts]

    def test_many_prompts_at_once_are_each_alone(self):
        options = [o for prompt in PROMPTS for o in ("--prompt", prompt)]
        together = self.continuations(self.generate("--greedy", *options))
        alone = [self.generate("--greedy", "--prompt", prompt) for prompt in PROMPTS]
        self.assertEqual(together, alone)
        (self.folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n\n", encoding="utf-8")
        self.assertEqual(
            self.continuations(self.generate("--greedy", "--prompt-file", "prompts.txt")), alone
        )

    def test_text_and_speed_do_not_mix(self):
        result = self.succeed("generate", "model", "--prompt", "the", "--max-new-tokens", 8)
        self.assertRegex(result.err, r"^\d+ tokens in .* tokens/s\)\n$")
        self.assertNotIn("tokens/s", result.out)

    def test_an_empty_prompt_begins_a_text(self):
        self.assertGreater(len(self.generate("--prompt", "", "--greedy")), 1)

    def test_bf16(self):
        self.assertTrue(self.generate("--prompt", "the", "--precision", "bf16").startswith("the"))

    def test_chat_reads_lines(self):
        options = ["--temperature", 0, "--max-new-tokens", 6]
        result = self.succeed("chat", "model", *options, text="the quick\n\nel veloz")
        replies = result.out.split("> ")
        self.assertEqual(len(replies), 5, result)  # before; two turns, one forgotten; the end
        expected = self.succeed("generate", "model", "--prompt", "el veloz", *options).out
        self.assertEqual("el veloz" + replies[3], expected, "an empty line forgets what was said")
        self.assertEqual(self.succeed("chat", "model", text="").out, "> \n")

    def test_chat_with_a_template(self):
        """What the model reads is what `generate` reads of the same text."""
        self.succeed("convert", "model", "hf")
        template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ end }}"
        config = {"chat_template": template + "{% if add_generation_prompt %}<a>{% endif %}"}
        (self.folder / "hf/tokenizer_config.json").write_text(json.dumps(config))
        options = ["--temperature", 0, "--max-new-tokens", 6]
        result = self.succeed("chat", "hf", "--system", "be", *options, text="the\nfox\n\nel")
        self.assertIn("Type a message", result.err)
        replies = [reply.split("\n")[0] for reply in result.out.split("> ")[1:]]
        prompts = ["<system>be<user>the<a>"]
        prompts.append(f"<system>be<user>the<assistant>{replies[0]}<user>fox<a>")
        prompts.append("<system>be<user>el<a>")
        for prompt, reply in zip(prompts, [replies[0], replies[1], replies[3]]):
            expected = self.succeed("generate", "hf", "--prompt", prompt, *options).out
            self.assertEqual(prompt + reply + "\n", expected)
        config["chat_template"] = "\n{{ raise_exception('roles must alternate') }}"
        (self.folder / "hf/tokenizer_config.json").write_text(json.dumps(config))
        words = ["tokenizer_config.json, chat_template: line 2", "refuses it: roles must alternate"]
        result = self.forja("chat", "hf", text="x")
        self.assertEqual(result.code, 2, result)
        for word in words:
            self.assertIn(word, result.errors[0])
        self.refuse(["--system needs a chat template"], "chat", "model", "--system", "x")

    def test_stop_tokens_of_the_model(self):
        """Also those that only generation_config.json names."""
        self.succeed("convert", "model", "hf")
        options = ["--prompt", "the", "--temperature", 0, "--max-new-tokens", 6]
        whole = self.succeed("generate", "hf", *options).out
        (self.folder / "hf/generation_config.json").write_text(
            json.dumps({"eos_token_id": list(range(VOCABULARY))})
        )
        self.assertNotEqual(whole, "the\n")
        self.assertEqual(self.succeed("generate", "hf", *options).out, "the\n")
        (self.folder / "hf/generation_config.json").write_text('{"eos_token_id": "x"}')
        self.refuse(["eos_token_id"], "generate", "hf", *options)

    def test_bad_input(self):
        bad_text = b"a\xffb\n"
        (self.folder / "bad.txt").write_bytes(bad_text)
        (self.folder / "empty.txt").write_bytes(b"")
        (self.folder / "folder").mkdir()
        for words, arguments in {
            ("no prompt", "--prompt TEXT"): ["model"],
            ("no prompt",): ["model", "--prompt-file", "empty.txt"],
            ("missing.txt",): ["model", "--prompt-file", "missing.txt"],
            ("not UTF-8", "offset 1"): ["model", "--prompt-file", "bad.txt"],
            ("no model at missing",): ["missing", "--prompt", "x"],
            ("no model at text.txt",): ["text.txt", "--prompt", "x"],
            ("folder holds neither a checkpoint",): ["folder", "--prompt", "x"],
            ("data", "neither a checkpoint"): ["data", "--prompt", "x"],
            ("no tokenizer missing",): ["model", "--prompt", "x", "--tokenizer", "missing"],
            ("text.txt is no tokenizer",): ["model", "--prompt", "x", "--tokenizer", "text.txt"],
            ("--temperature", "0 or greater, found -1"): [
                "model",
                "--prompt=x",
                "--temperature=-1",
            ],
            ("--top-p", "between 0 and 1, found 1.5"): ["model", "--prompt=x", "--top-p=1.5"],
            ("--top-k", "0 or greater, found -2"): ["model", "--prompt=x", "--top-k=-2"],
            ("--seed", "0 or greater, found -1"): ["model", "--prompt=x", "--seed=-1"],
            ("--max-new-tokens", "1 or greater"): ["model", "--prompt=x", "--max-new-tokens=0"],
            ("--precision", "fp8", "bf16"): ["model", "--prompt=x", "--precision=fp8"],
            ("tokens", "64 positions"): ["model", "--prompt", "the quick fox " * 40],
        }.items():
            with self.subTest(arguments=arguments[:4]):
                self.refuse(words, "generate", *arguments)

    def test_a_tokenizer_larger_than_the_model(self):
        big = ["tokenizer", "train", "text.txt", "--vocab-size", 320, "--out", "big.json"]
        self.succeed(*big)
        words = ["320 ids", "has 300", "do not belong together"]
        self.refuse(words, "generate", "model", "--prompt", "x", "--tokenizer", "big.json")

    def test_damaged_checkpoints(self):
        shard = self.checkpoint("model", 120) / "shard-00000.safetensors"
        whole = shard.read_bytes()
        at = len(whole) // 3  # within the weights, which are read first
        for damage, words in {
            whole[:1000]: ["truncated", f"expected {len(whole)} bytes, found 1000"],
            whole[:at] + bytes(len(whole) - at): ["is damaged: checksum"],
        }.items():
            shard.write_bytes(damage)
            self.refuse([shard.name, *words], "generate", "model", "--prompt", "x")
            self.refuse([shard.name, *words], "inspect", "model", "--verify")
        shard.unlink()
        self.refuse([shard.name, "missing"], "generate", "model", "--prompt", "x")


class PublishedModelTest(ForjaTest):
    """A real model in Hugging Face's layout, with a tokenizer made from its own."""

    def setUp(self):
        super().setUp()
        source = ASSETS / "weights/stories260K"
        if not (source / "tok512.bin").exists():
            self.skipTest("needs weights/stories260K (set FORJA_TEST_ASSETS)")
        self.model = self.folder / "stories"
        self.model.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(source / name, self.model)
        pieces = read_llama2c_tokenizer((source / "tok512.bin").read_bytes())
        (self.model / "tokenizer.model").write_bytes(sentencepiece_model(pieces))

    def test_greedy_text(self):
        options = ["--prompt", "Once upon a time", "--greedy", "--max-new-tokens", 100]
        # What llama2.c prints (its README of the model).
        expected = (
            "Once upon a time, there was a little girl named Lily. She loved to play outside in"
            " the park. One day, she saw a big, red ball. She wanted to play with it, but it was"
            " too high.\nLily's mom said, \"Lily, let's go to the park.\""
        )
        out = self.succeed("generate", "stories", *options).out
        self.assertTrue(out.startswith(expected), out)

    def test_inspect(self):
        out = self.succeed("inspect", "stories").out
        self.assertIn("Hugging Face model: llama, 5 layers, hidden size 64, vocabulary 512", out)
        self.assertIn(
            "vocabulary        512", self.succeed("inspect", "stories/tokenizer.model").out
        )

    def test_training_starts_from_it(self):
        self.succeed("tokenize", "text.txt", "--tokenizer", "stories", "--out", "story-data")
        run = [
            f"{key}: {value}\n"
            for key, value in {
                "model": "stories/config.json",
                "init": "{from: stories}",
                "data": "{tokenizer: stories, train: story-data, sequence_length: 32}",
                "train": "{steps: 2, global_batch_size: 4}",
            }.items()
        ]
        (self.folder / "tune.yaml").write_text("".join(run))
        self.succeed("train", "tune.yaml", "output=tuned")
        self.succeed("train", "tune.yaml", "output=fresh", "init.from=")
        self.assertNotEqual(self.losses("tuned")[0], self.losses("fresh")[0])
        self.succeed("generate", "tuned", "--prompt", "Once", "--max-new-tokens", 4)
        self.refuse(
            ["model.safetensors", "truncated"],
            "train",
            "tune.yaml",
            "output=x",
            *self.truncated_weights(),
        )
        self.assertFalse((self.folder / "x").exists())

    def truncated_weights(self):
        (self.folder / "broken").mkdir()
        shutil.copy(self.model / "config.json", self.folder / "broken")
        weights = (self.model / "model.safetensors").read_bytes()
        (self.folder / "broken/model.safetensors").write_bytes(weights[:100000])
        return ["init.from=broken"]


if __name__ == "__main__":
    unittest.main()
