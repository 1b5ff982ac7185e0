# SPDX-License-Identifier: Apache-2.0
"""forja convert to GGUF: what the file says, where the model may come from, and what is refused."""

import json
import math
import shutil
import struct
import unittest

from forja_testing import VOCABULARY, ForjaTest, read_safetensors
from sentencepiece import sentencepiece_model, whole

NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
F32, F16, Q8_0 = 0, 1, 8


class Gguf:
    """The keys and the tensors (dims, type, bytes) of a file, version 3."""

    NUMBERS = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}

    def __init__(self, file):
        self.data, self.at = file.read_bytes(), 4
        assert self.data[:4] == b"GGUF"
        version, tensors, keys = self.take("<I"), self.take("<Q"), self.take("<Q")
        assert version == 3
        self.keys = {self.text(): self.value(self.take("<I")) for _ in range(keys)}
        infos = [self.info() for _ in range(tensors)]
        begin = (self.at + 31) // 32 * 32
        self.tensors = {}
        for name, dims, kind, offset in infos:
            assert offset % 32 == 0
            count = math.prod(dims)
            size = {F32: 4 * count, F16: 2 * count, Q8_0: count // 32 * 34}[kind]
            self.tensors[name] = (dims, kind, self.data[begin + offset : begin + offset + size])

    def take(self, layout):
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value

    def text(self):
        size = self.take("<Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind != 9:
            return self.take(self.NUMBERS[kind])
        element, count = self.take("<I"), self.take("<Q")
        return [self.value(element) for _ in range(count)]

    def info(self):
        name, rank = self.text(), self.take("<I")
        return name, [self.take("<Q") for _ in range(rank)], self.take("<I"), self.take("<Q")


class GgufTest(ForjaTest):
    """One trained model for all tests: the run "model", and "hf", made of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        trainer = cls.pretrain()
        trainer.succeed("convert", "model", "hf")

    def gguf(self, source, *options, target="x.gguf"):
        (self.folder / target).unlink(missing_ok=True)
        self.said = self.succeed("convert", source, target, *options).err
        return Gguf(self.folder / target)

    def change_tokenizer(self, change):
        file = self.folder / "hf/tokenizer.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    def test_what_it_says(self):
        file = self.gguf("model")
        self.assertRegex(self.said, r"x\.gguf: GGUF file, \d+ parameters, .* as fp16")
        self.assertEqual(file.keys["general.architecture"], "llama")
        self.assertEqual(file.keys["llama.block_count"], 2)
        self.assertEqual(file.keys["llama.context_length"], 64)
        tokenizer = json.loads((self.folder / "tokenizer.json").read_text())
        vocabulary = {**tokenizer["model"]["vocab"]}
        vocabulary.update({t["content"]: t["id"] for t in tokenizer["added_tokens"]})
        tokens = file.keys["tokenizer.ggml.tokens"]
        self.assertEqual({text: id for id, text in enumerate(tokens)}, vocabulary)
        self.assertEqual(file.keys["tokenizer.ggml.model"], "gpt2")
        self.assertEqual(file.keys["tokenizer.ggml.pre"], "gpt-2")
        merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
        self.assertEqual(file.keys["tokenizer.ggml.merges"], merges)
        end = file.keys["tokenizer.ggml.eos_token_id"]
        self.assertEqual(tokens[end], "<|endoftext|>")
        types = file.keys["tokenizer.ggml.token_type"]
        self.assertEqual({i for i, t in enumerate(types) if t == CONTROL}, {end})
        self.assertEqual(set(types), {NORMAL, CONTROL})
        self.assertIs(file.keys["tokenizer.ggml.add_bos_token"], False)
        self.assertNotIn("tokenizer.chat_template", file.keys)

    def test_weights(self):
        weights = read_safetensors(self.folder / "hf/model.safetensors")
        stored = {key[0]: data for key, data in weights.items()}
        file = self.gguf("model", "--dtype", "fp32")
        for name, source in {
            "output_norm": "model.norm",
            "blk.1.ffn_gate": "model.layers.1.mlp.gate_proj",
            "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
        }.items():
            self.assertEqual(file.tensors[name + ".weight"][2], stored[source + ".weight"])
        # Heads of 8: dims i and i + 4 become neighbours.
        row = 4 * 32
        k = stored["model.layers.0.self_attn.k_proj.weight"]
        turned = [k[(8 * h + i) * row :][:row] for h in (0, 1) for i in (0, 4, 1, 5, 2, 6, 3, 7)]
        self.assertEqual(file.tensors["blk.0.attn_k.weight"][2], b"".join(turned))
        half = self.gguf("model", "--dtype", "fp16")
        up = stored["model.layers.0.mlp.up_proj.weight"]
        values = struct.unpack(f"<{len(up) // 4}f", up)
        dims, kind, data = half.tensors["blk.0.ffn_up.weight"]
        self.assertEqual((dims, kind), ([32, 48], F16))
        self.assertEqual(data, struct.pack(f"<{len(values)}e", *values))
        self.assertEqual(half.tensors["blk.0.attn_norm.weight"][1], F32)

    def test_sizes(self):
        sizes = {}
        for dtype in ("fp32", "fp16", "bf16", "q8_0"):
            self.succeed("convert", "model", dtype + ".gguf", "--dtype", dtype)
            sizes[dtype] = (self.folder / (dtype + ".gguf")).stat().st_size
        self.assertEqual(sizes["fp16"], sizes["bf16"])
        self.assertGreater(sizes["fp32"], sizes["fp16"])
        self.assertGreater(sizes["fp16"], sizes["q8_0"])
        file = self.gguf("model", "--dtype", "q8_0")
        self.assertEqual(file.tensors["blk.0.ffn_up.weight"][1], Q8_0)
        self.assertEqual(file.tensors["blk.0.ffn_down.weight"][1], F16)  # rows of 48
        self.assertIn("rows that are no multiple of 32 stay fp16: blk.0.ffn_down.weight", self.said)

    def test_every_source(self):
        """The run, its checkpoint, the Hugging Face model and a checkpoint of that: one file."""
        self.succeed("convert", "hf", "imported")
        sources = ("model", self.checkpoint("model", 8), "hf", "imported")
        files = {self.gguf(source).data for source in sources}
        self.assertEqual(len(files), 1)
        self.assertEqual(self.gguf("hf", target="deep/er/x.gguf").data, files.pop())
        fp32 = self.gguf("model", "--dtype", "source")
        self.assertEqual(fp32.tensors["output.weight"][1], F32)

    def test_adapters(self):
        self.train("tuned", "init.from=hf", "lora.rank=4", "lora.alpha=64", "eval.every=0")
        self.succeed("convert", "tuned", "adapter")
        self.succeed("convert", "tuned", "merged", "--merge")
        for source in ("tuned", "adapter"):
            self.refuse(["has adapters", "give --merge"], "convert", source, "y.gguf")
            file = self.gguf(source, "--merge", "--tokenizer", "tokenizer.json")
            self.assertIn("with the adapters merged", self.said)
            merged = self.gguf("merged")
            self.assertEqual(file.tensors, merged.tensors)
        self.assertNotEqual(file.tensors, self.gguf("hf").tensors)
        self.refuse(["no adapters to merge"], "convert", "hf", "y.gguf", "--merge")
        self.assertFalse((self.folder / "y.gguf").exists())

    def test_tokenizers(self):
        # Padded: ids that the tokenizer lacks.
        size = VOCABULARY + 5
        self.train("padded", "eval.every=0", "train.steps=1", f"model.vocab_size={size}")
        file = self.gguf("padded")
        self.assertEqual(file.keys["llama.vocab_size"], size)
        self.assertEqual(file.keys["tokenizer.ggml.tokens"][-1], f"[PAD{size - 1}]")
        self.assertEqual(file.keys["tokenizer.ggml.token_type"][VOCABULARY:], [UNUSED] * 5)
        # A chat template, none at all, a pattern that llama.cpp does not know.
        config = self.folder / "hf/tokenizer_config.json"
        content = {**json.loads(config.read_text()), "chat_template": "{{ x }}"}
        config.write_text(json.dumps(content))
        self.assertEqual(self.gguf("hf").keys["tokenizer.chat_template"], "{{ x }}")
        split = {"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated"}
        level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
        pre = {"type": "Sequence", "pretokenizers": [split, level]}
        self.change_tokenizer(lambda content: content.update(pre_tokenizer=pre))
        self.refuse(["other words", "[a-z]+", "Llama 3"], "convert", "hf", "y.gguf")
        (self.folder / "hf/tokenizer.json").unlink()
        config.unlink()
        file = self.gguf("hf")
        self.assertIn("hf: converting without a tokenizer", self.said)
        self.assertEqual(file.keys["tokenizer.ggml.model"], "no_vocab")
        self.assertEqual(file.keys["llama.vocab_size"], VOCABULARY)
        self.assertFalse((self.folder / "y.gguf").exists())

    def test_sentencepiece(self):
        pieces = [(0.0, b"<unk>"), (0.0, b"\n<s>\n"), (0.0, b"\n</s>\n")]
        pieces += [(0.0, b"<0x%02X>" % byte) for byte in range(256)]
        pieces += [(-float(i), text) for i, text in enumerate((b" a", b"b", b"ab"))]
        (self.folder / "small.model").write_bytes(sentencepiece_model(pieces))
        file = self.gguf("hf", "--tokenizer", "small.model")
        self.assertEqual(file.keys["tokenizer.ggml.model"], "llama")
        count = len(pieces)
        types = file.keys["tokenizer.ggml.token_type"]
        wanted = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * 3
        self.assertEqual(types, wanted + [UNUSED] * (VOCABULARY - count))
        self.assertEqual(file.keys["tokenizer.ggml.tokens"][259:262], ["\u2581a", "b", "ab"])
        self.assertEqual(file.keys["tokenizer.ggml.scores"][259:262], [0.0, -1.0, -2.0])
        ids = [file.keys[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos")]
        self.assertEqual(ids, [1, 2])
        self.assertIs(file.keys["tokenizer.ggml.add_bos_token"], True)
        self.assertIs(file.keys["tokenizer.ggml.add_space_prefix"], True)
        self.assertNotIn("tokenizer.ggml.merges", file.keys)
        falls_back, does_not = whole(35, 1), whole(35, 0)  # of byte_fallback
        bad = sentencepiece_model(pieces[:3] + pieces[259:]).replace(falls_back, does_not)
        (self.folder / "bad.model").write_bytes(bad)
        words = ["a token for each byte", "found 0 of 256"]
        self.refuse(words, "convert", "hf", "y.gguf", "--tokenizer", "bad.model")

    def test_sliding_window(self):
        window = {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 9}
        self.write_config("run.yaml", model=window)
        self.train("window", "eval.every=0", "train.steps=1")
        self.gguf("window")
        self.assertIn("warning: llama.cpp's architecture for mistral has no sliding", self.said)
        self.assertIn("up to 9 tokens", self.said)

    def test_refusals(self):
        (self.folder / "taken.gguf").write_text("x")
        shutil.copytree(self.folder / "hf", self.folder / "large")
        file = self.folder / "large/model.safetensors"
        data = bytearray(file.read_bytes())
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        begin = header["model.layers.1.mlp.down_proj.weight"]["data_offsets"][0]
        struct.pack_into("<f", data, 8 + int.from_bytes(data[:8], "little") + begin, 70000.0)
        file.write_bytes(data)
        for words, arguments in {
            ("--dtype fp16 is for GGUF", ".gguf"): ["model", "x", "--dtype", "fp16"],
            ("--dtype q8_0 is for GGUF",): ["hf", "x", "--dtype", "q8_0"],
            ("--dtype", "q4_0"): ["model", "x.gguf", "--dtype", "q4_0"],
            ("--max-shard-size", "one file"): ["model", "x.gguf", "--max-shard-size", "1GB"],
            ("taken.gguf is there already",): ["model", "taken.gguf"],
            ("no model at missing",): ["missing", "x.gguf"],
            ("data holds neither",): ["data", "x.gguf"],
            ("70000 of blk.1.ffn_down.weight has no place in fp16",): ["large", "x.gguf"],
        }.items():
            self.refuse(words, "convert", *arguments)
        self.assertEqual([p for p in self.files() if p.startswith("x")], [])
        self.assertEqual((self.folder / "taken.gguf").read_text(), "x")
        self.succeed("convert", "large", "x.gguf", "--dtype", "bf16")
        model = {"model_type": "gpt2", "num_key_value_heads": 4, "mlp": "gelu_erf"}
        self.write_config("run.yaml", model=model)
        self.train("erf", "eval.every=0", "train.steps=1")
        self.refuse(["gpt2 has no exact GELU"], "convert", "erf", "y.gguf")
        self.assertIn("GGUF", self.succeed("convert", "--help").out)


if __name__ == "__main__":
    unittest.main()
