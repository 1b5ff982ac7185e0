# SPDX-License-Identifier: Apache-2.0
"""forja convert: Hugging Face models in and out."""

import json
import os
import resource
import shutil
import signal
import subprocess
import unittest

from forja_testing import ENVIRONMENT, FORJA, VOCABULARY, ForjaTest, read_safetensors, run

INDEX = "model.safetensors.index.json"
SMALL = {"hidden_size": 16}
FAMILIES = {
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4},
    "llama": {"model_type": "llama", "num_key_value_heads": 2},
    "llama3": {"model_type": "llama", "rope": {"rope_type": "llama3", "factor": 8.0}},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 9},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True},
}


def tensors(folder):
    """The bytes of every tensor of a Hugging Face directory."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.update(read_safetensors(file))
    return found


def write_zeros(file, shapes):
    """A safetensors file of fp32 zeros that takes no room on the disk."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(file, 8 + len(text) + at)
    return at


class ConvertTest(ForjaTest):
    """One trained model for all tests: the run "model", and "hf", made of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        trainer = cls.pretrain()
        trainer.succeed("convert", "model", "hf")

    def config(self, folder):
        return json.loads((self.folder / folder / "config.json").read_text())

    def greedy(self, model):
        options = ["--greedy", "--max-new-tokens", 12]
        return self.succeed("generate", model, "--prompt", "the quick", *options).out

    def test_what_it_writes(self):
        self.assertEqual(
            self.files("hf"),
            [
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        )
        config = self.config("hf")
        self.assertEqual(config["architectures"], ["LlamaForCausalLM"])
        self.assertEqual((config["dtype"], config["torch_dtype"]), ("float32", "float32"))
        end = json.loads((self.folder / "hf/tokenizer_config.json").read_text())["eos_token"]
        added = json.loads((self.folder / "hf/tokenizer.json").read_text())["added_tokens"]
        ids = {token["content"]: token["id"] for token in added}
        self.assertEqual(config["eos_token_id"], ids[end])
        names = {key[0] for key in tensors(self.folder / "hf")}
        self.assertIn("model.layers.1.self_attn.k_proj.weight", names)
        self.assertIn("model.layers.0.mlp.gate_proj.weight", names)
        result = self.succeed("convert", "model", "again")
        line = r"again: Hugging Face model, \d+ parameters, .* as fp32 in 1 file"
        self.assertRegex(result.err, line)

    def test_there_and_back(self):
        """The run, its checkpoint, the Hugging Face model and the one made of that are the same."""
        self.succeed("convert", "hf", "checkpoint")
        self.succeed("convert", "checkpoint", "back")
        self.assertEqual(tensors(self.folder / "hf"), tensors(self.folder / "back"))
        self.assertEqual(self.config("hf"), self.config("back"))
        self.assertEqual(self.files("hf"), self.files("back"))
        trained = self.weights("model", 8)
        weights = {key: data for key, data in trained.items() if key[0].startswith("model/")}
        found = read_safetensors(self.folder / "checkpoint/shard-00000.safetensors")
        self.assertEqual(weights, found)
        texts = {self.greedy(model) for model in ("model", "hf", "checkpoint", "back")}
        self.assertEqual(len(texts), 1, texts)
        verified = self.succeed("inspect", "checkpoint", "--verify").out
        self.assertIn("no moments", verified)
        self.assertIn("every checksum is right", verified)

    def test_every_family_and_dtype(self):
        for name, model in FAMILIES.items():
            self.write_config("run.yaml", model={**SMALL, **model})
            steps = ["train.steps=2", "eval.every=0"]
            self.train(name, *steps, "train.precision=bf16")
            for dtype in ("bf16", "fp32"):
                hf, back = f"{name}-{dtype}", f"{name}-{dtype}-back"
                self.succeed("convert", name, hf, "--dtype", dtype, "--max-shard-size", "5KB")
                self.succeed("convert", hf, back + "-checkpoint")
                self.succeed("convert", back + "-checkpoint", back)
                self.assertEqual(tensors(self.folder / hf), tensors(self.folder / back), name)
                self.assertEqual(self.config(hf), self.config(back), name)
                # One file there, several here: the size was not given.
                self.assertGreater(len(list((self.folder / hf).glob("*.safetensors"))), 1)
                self.assertEqual(len(list((self.folder / back).glob("*.safetensors"))), 1)
            self.succeed("convert", name, name + "-auto")
            self.assertEqual(
                tensors(self.folder / (name + "-auto")), tensors(self.folder / (name + "-bf16"))
            )

    def test_starting_from_each(self):
        """init.from a run's checkpoint, a sharded model, its checkpoint: the same losses."""
        self.succeed("convert", "model", "shards", "--max-shard-size", "20kb")
        self.assertTrue((self.folder / "shards" / INDEX).exists())
        self.succeed("convert", "shards", "checkpoint")
        losses = {}
        for name in (self.checkpoint("model", 8), "hf", "shards", "checkpoint"):
            self.train("from", f"init.from={self.folder / name}", "train.steps=2", "eval.every=0")
            losses[str(name)] = self.losses("from")
            shutil.rmtree(self.folder / "from")
        self.assertEqual(len({tuple(v) for v in losses.values()}), 1, losses)
        ranks = ["parallel.tp=2", "parallel.pp=2", "train.steps=2", "eval.every=0"]
        self.train("from", "init.from=shards", *ranks, ranks=4)
        self.assert_same_losses(losses["hf"], self.losses("from"), "tp 2, pp 2")

    def test_inspect(self):
        self.succeed("convert", "model", "shards", "--max-shard-size", "20kb", "--dtype", "bf16")
        out = self.succeed("inspect", "shards", "--verify").out
        self.assertRegex(out, r"Hugging Face model: llama, 2 layers, .* parameters")
        self.assertRegex(out, r"\d+ shards, .* bf16")
        self.assertIn("verified: every tensor of the model is there", out)
        self.assertIn("byte-level BPE", out)

    def test_bad_arguments(self):
        (self.folder / "full").mkdir()
        (self.folder / "full/x").write_text("x")
        (self.folder / "empty").mkdir()
        for words, arguments in {
            ("full is there already and not empty",): ["model", "full"],
            ("text.txt is there already",): ["model", "text.txt"],
            ("no model at missing",): ["missing", "x"],
            ("no model at text.txt",): ["text.txt", "x"],
            ("empty holds neither",): ["empty", "x"],
            ("data holds neither",): ["data", "x"],
            ("--dtype", "fp16"): ["model", "x", "--dtype", "fp16"],
            ("--max-shard-size",): ["model", "x", "--max-shard-size", "0"],
            ("there is no tokenizer missing",): ["model", "x", "--tokenizer", "missing"],
            ("unknown option --dtipe", "--dtype"): ["model", "x", "--dtipe", "fp32"],
        }.items():
            self.refuse(words, "convert", *arguments)
        self.assertFalse((self.folder / "x").exists() or (self.folder / "x.partial").exists())
        self.succeed("convert", "model", "empty")
        self.assertIn("--max-shard-size", self.succeed("convert", "--help").out)

    def test_damaged_models(self):
        def damaged(change):
            shutil.rmtree(self.folder / "bad", ignore_errors=True)
            shutil.copytree(self.folder / "shards", self.folder / "bad")
            change(self.folder / "bad")

        def change_json(name, **changes):
            def change(folder):
                content = json.loads((folder / name).read_text())
                content.update(changes)
                (folder / name).write_text(json.dumps(content))

            return change

        def change_map(file):
            def change(folder):
                content = json.loads((folder / INDEX).read_text())
                content["weight_map"]["model.norm.weight"] = file
                (folder / INDEX).write_text(json.dumps(content))

            return change

        first = "model-00001-of-"
        self.succeed("convert", "model", "shards", "--max-shard-size", "20kb")
        shard = next(p.name for p in (self.folder / "shards").glob(first + "*"))
        for words, change in {
            ("model_type", "expected one of gpt2, llama", "bloom"): change_json(
                "config.json", model_type="bloom"
            ),
            ("model.layers.2", "is missing"): change_json("config.json", num_hidden_layers=3),
            ("has shape [300, 32], the model wants [301, 32]",): change_json(
                "config.json", vocab_size=301
            ),
            ("is no name of a file beside it",): change_map("../shards/" + shard),
            ("names the file gone.safetensors", "which is missing"): change_map("gone.safetensors"),
            ("weight_map",): change_json(INDEX, weight_map=[]),
            (shard, "truncated"): lambda folder: os.truncate(folder / shard, 3000),
            (shard, "which is missing"): lambda folder: (folder / shard).unlink(),
            ("neither model.safetensors nor",): lambda folder: (folder / INDEX).unlink(),
        }.items():
            damaged(change)
            self.refuse(words, "convert", "bad", "x")
            self.assertEqual([p for p in self.files() if p.startswith("x")], [], words)
        damaged(change_json("config.json", num_hidden_layers=1))
        result = self.succeed("convert", "bad", "x")
        line = r"warning: bad: the model has no use for model\.layers\.1\..*more"
        self.assertRegex(result.err, line)

    def test_damaged_checkpoints(self):
        shutil.copytree(self.checkpoint("model", 8), self.folder / "bad")
        file = self.folder / "bad/shard-00000.safetensors"
        data = bytearray(file.read_bytes())
        data[8 + int.from_bytes(data[:8], "little")] ^= 1  # of the first weight
        file.write_bytes(data)
        self.refuse(["is damaged: checksum"], "convert", "bad", "x")
        self.assertFalse((self.folder / "x.partial").exists())
        # Weights alone cannot be gone on from.
        self.succeed("convert", "hf", "imported")
        shutil.copytree(self.folder / "model", self.folder / "run")
        shutil.rmtree(self.folder / "run/checkpoints")
        shutil.copytree(self.folder / "imported", self.checkpoint("run", 8))
        result = self.forja("train", "run.yaml", "output=run", "eval.every=0", "train.steps=9")
        self.assertEqual(result.code, 2)
        self.assertIn("give it as init.from", result.err)

    def test_without_a_tokenizer(self):
        shutil.copytree(self.folder / "hf", self.folder / "bare")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (self.folder / "bare" / name).unlink()
        result = self.succeed("convert", "bare", "checkpoint")
        self.assertIn("warning: bare: converting without a tokenizer", result.err)
        result = self.succeed("convert", "checkpoint", "back")
        self.assertIn("the run names none", result.err)
        self.assertIsNone(self.config("back")["eos_token_id"])
        self.succeed("tokenize", "text.txt", "--tokenizer", "tokenizer.json", "--out", "moved")
        data = ["data.tokenizer=moved", "data.train=moved"]
        self.train("gone", *data, "train.steps=1", "eval.every=0")
        shutil.rmtree(self.folder / "moved")
        result = self.succeed("convert", "gone", "gone-hf")
        self.assertRegex(result.err, "the run's .*moved is gone, and so is its data")
        self.succeed("convert", "checkpoint", "with", "--tokenizer", "tokenizer.json")
        self.assertEqual(self.config("with"), self.config("hf"))

    def big_model(self):
        """Half a gigabyte and more of zeros, in matrices of 4 MB."""
        shutil.copytree(self.folder / "hf", self.folder / "big")
        for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors"):
            (self.folder / "big" / name).unlink()
        e, layers = 1024, 30
        config = self.config("big")
        config.update(hidden_size=e, num_hidden_layers=layers, intermediate_size=e, head_dim=e // 4)
        (self.folder / "big/config.json").write_text(json.dumps(config))
        shapes = {f"model.{n}.weight": [VOCABULARY, e] for n in ("embed_tokens",)}
        shapes.update({"lm_head.weight": [VOCABULARY, e], "model.norm.weight": [e]})
        for i in range(layers):
            for name, shape in {
                "self_attn.q_proj": [e, e],
                "self_attn.k_proj": [e // 2, e],
                "self_attn.v_proj": [e // 2, e],
                "self_attn.o_proj": [e, e],
                "mlp.gate_proj": [e, e],
                "mlp.up_proj": [e, e],
                "mlp.down_proj": [e, e],
                "input_layernorm": [e],
                "post_attention_layernorm": [e],
            }.items():
                shapes[f"model.layers.{i}.{name}.weight"] = shape
        return write_zeros(self.folder / "big/model.safetensors", shapes)

    def test_memory_is_that_of_a_tensor(self):
        total = self.big_model()
        limit = total // 4

        def limited():
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        for source, target in (
            ("big", "checkpoint"),
            ("checkpoint", "back"),
            ("checkpoint", "x.gguf"),
        ):
            result = run(["convert", source, target], self.folder, preexec=limited)
            self.assertEqual(result.code, 0, result)
        self.assertGreater((self.folder / "back/model.safetensors").stat().st_size, total)

    def test_interrupted(self):
        self.big_model()
        for target, end in (("first", signal.SIGKILL), ("second", signal.SIGINT)):
            process = subprocess.Popen(
                [FORJA, "convert", "big", target],
                cwd=self.folder,
                env=ENVIRONMENT,
                stderr=subprocess.DEVNULL,
            )
            partial = self.folder / (target + ".partial")
            self.wait_for("it to begin", partial.exists)
            process.send_signal(end)
            self.assertNotEqual(process.wait(), 0)
            self.assertFalse((self.folder / target).exists())
            self.succeed("convert", "hf", target)
            self.assertFalse(partial.exists())


if __name__ == "__main__":
    unittest.main()
