# SPDX-License-Identifier: Apache-2.0
"""Adapters and frozen parameters from a run's YAML to the files that others read."""

import json
import shutil
import unittest

from forja_testing import ForjaTest, read_safetensors

# Another text than that of the pretrained model.
DATA = ["data.train=other", "data.valid=other"]
LORA = [*DATA, "init.from=hf", "lora.rank=4", "lora.alpha=8"]
NAME = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


class LoraTest(ForjaTest):
    """One pretrained model for all tests: "hf"."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        trainer = cls.pretrain("train.steps=60")
        trainer.succeed("convert", "model", "hf")
        other = trainer.folder / "other.txt"
        other.write_text("\n%\n".join(["the quick dog " * 15] * 200), encoding="utf-8")
        trainer.succeed("tokenize", "other.txt", "--tokenizer", "tokenizer.json", "--out", "other",
                        "--document-separator", "%")

    def generated(self, model):
        return self.succeed("generate", model, "--prompt", "the quick", "--max-new-tokens", "12",
                            "--temperature", "0").out

    def test_a_run_saves_its_adapters_and_goes_on(self):
        self.assertIn("of them trained", self.train("whole", *LORA).err)
        words = self.succeed("inspect", self.checkpoint("whole", 8), "--verify").out
        self.assertIn("layers.0.attention.qkv.lora_a", words)
        self.assertNotIn("layers.0.attention.qkv.weight", words)
        size = sum(f.stat().st_size for f in self.checkpoint("whole", 8).glob("*.safetensors"))
        base = sum(f.stat().st_size for f in (self.folder / "hf").glob("*.safetensors"))
        self.assertLess(size, 2 * base, "weights and two moments of the adapters")
        shutil.copytree(self.folder / "whole", self.folder / "parts")
        shutil.rmtree(self.checkpoint("parts", 8))
        self.assertIn("(step 4)", self.train("parts", *LORA).err)
        for file in self.checkpoint("whole", 8).glob("*.safetensors"):
            self.assertEqual(file.read_bytes(), (self.checkpoint("parts", 8) / file.name).read_bytes())
        # ... also divided among ranks.
        shutil.rmtree(self.checkpoint("parts", 8))
        self.train("parts", *LORA, "parallel.tp=2", "parallel.zero=3", ranks=4)
        self.assert_same_losses(self.losses("whole"), self.losses("parts"), "tp 2, zero 3")

    def test_another_run_in_its_place(self):
        self.train("run", *LORA, "train.steps=2")
        shutil.copytree(self.folder / "hf", self.folder / "other_base")
        for part, override in (
            ("lora", "lora.alpha=16"),
            ("lora", "lora.targets=[q_proj]"),
            ("parameters", 'parameters=[{match: "*norm*", lr_scale: 0.5}]'),
            ("preference", "preference.loss=dpo"),
            ("init.from", "init.from=other_base"),
        ):
            with self.subTest(override=override):
                self.refuse([f'"{part}" differs'], "train", "run.yaml", "output=run", *LORA, override)

    def test_it_learns(self):
        self.train("learns", *LORA, "train.steps=30")
        self.assertLess(self.evaluations("learns")[-1], self.evaluations("learns")[0] - 0.1)

    def test_peft_and_back(self):
        self.train("run", *LORA, "lora.alpha=64", "lora.targets=[v_proj,o_proj]", "train.steps=30")
        self.succeed("convert", "run", "peft")
        config = json.loads((self.folder / "peft/adapter_config.json").read_text())
        self.assertEqual(config["r"], 4)
        self.assertEqual(config["lora_alpha"], 64)
        self.assertEqual(config["target_modules"], ["v_proj", "o_proj"])
        self.assertEqual(config["base_model_name_or_path"], str(self.folder / "hf"))
        tensors = read_safetensors(self.folder / "peft/adapter_model.safetensors")
        self.assertEqual({name for name, _, _ in tensors}, {NAME.format(layer, module, side) for layer in (0, 1)
                                        for module in ("v_proj", "o_proj") for side in "AB"})
        words = self.succeed("inspect", "peft").out
        self.assertIn("rank 4, alpha 64, targets [v_proj, o_proj]", words)
        self.assertIn(NAME.format(0, "v_proj", "A"), words)
        # Adapters in place and merged, from the run and from PEFT's files: the same text.
        text = self.generated("run")
        self.assertNotEqual(text, self.generated("hf"))
        self.succeed("convert", "run", "merged", "--merge")
        self.succeed("convert", "peft", "merged_too", "--merge")
        for model in ("peft", "merged", "merged_too"):
            self.assertEqual(text, self.generated(model), model)
        self.assertEqual((self.folder / "merged/model.safetensors").read_bytes(),
                         (self.folder / "merged_too/model.safetensors").read_bytes())
        # A run may begin with them.
        self.train("more", *DATA, "init.from=peft", "lora.rank=4", "lora.alpha=64",
                   "lora.targets=[v_proj,o_proj]", "train.steps=2")
        self.assertNotEqual(self.losses("more")[0], self.losses("run")[0])
        self.refuse(["rank 4", "rank 8"], "train", "run.yaml", "output=no", "init.from=peft",
                    "lora.rank=8", "lora.targets=[v_proj,o_proj]", code=2)
        self.refuse(["no place", "--merge"], "train", "run.yaml", "output=no", "init.from=peft")

    def test_adapters_on_adapters_merged(self):
        self.train("first", *LORA)
        self.train("second", "init.from=" + str(self.checkpoint("first", 8)), *LORA[1:])
        self.assertNotEqual(self.losses("second")[0], self.losses("first")[0])
        self.assertNotEqual(self.generated("first"), "")
        self.succeed("convert", "second", "merged", "--merge")
        self.assertEqual(self.generated("second"), self.generated("merged"))

    def test_frozen_parameters(self):
        rules = 'parameters=[{match: "*", trainable: false}, {match: "layers.1.*"}]'
        self.train("run", *DATA, "init.from=hf", rules)
        self.succeed("convert", "run", "trained")
        before = read_safetensors(self.folder / "hf/model.safetensors")
        after = read_safetensors(self.folder / "trained/model.safetensors")
        self.assertEqual(set(before), set(after))
        for name, data in before.items():
            self.assertEqual(data != after[name], "layers.1." in name[0], name)
        self.assertEqual(self.generated("run"), self.generated("trained"))

    def test_what_matches_nothing(self):
        train = ("train", "run.yaml", "output=no")
        self.refuse(["qproj", "q_proj", "down_proj"], *train, *LORA, "lora.targets=[qproj]")
        self.refuse(["lora", "q_proj"], *train, *LORA, "lora.targets=[]")
        self.refuse(["layer.*", "layers.*.mlp.up.weight"], *train, "init.from=hf",
                    'parameters=[{match: "layer.*", trainable: false}]')
        self.refuse(["nothing is left"], *train, "init.from=hf",
                    'parameters=[{match: "*", trainable: false}]')
        self.refuse(["init.from"], *train, "lora.rank=4")
        self.refuse(["lr_scale", "greater than 0"], *train, 'parameters=[{match: "*", lr_scale: 0}]')
        self.assertFalse((self.folder / "no").exists())

    def test_what_cannot_be_converted(self):
        self.train("run", *LORA, 'parameters=[{match: "*norm*"}]')
        self.refuse(["norm", "--merge"], "convert", "run", "peft")
        self.assertFalse((self.folder / "peft").exists())
        self.succeed("convert", "run", "merged", "--merge")
        self.refuse(["no adapters"], "convert", "model", "merged_too", "--merge")
        self.refuse(["no adapters"], "convert", "hf", "merged_too", "--merge")
        shutil.rmtree(self.folder / "hf")
        self.refuse(["hf", "no such model"], "generate", "run", "--prompt", "x")


if __name__ == "__main__":
    unittest.main()
