# SPDX-License-Identifier: Apache-2.0
"""forja eval: scores, files, ranks, faults."""

import json
import math
import shutil

from forja_testing import ASSETS, ROOT, ForjaTest

GOLDEN = ROOT / "tests/golden/eval"  # a tiny model, and files of every task; see tests/golden/README.md
DATA = GOLDEN / "data"


class EvalTest(ForjaTest):
    def evaluate(self, *arguments, model=GOLDEN, **options):
        return self.succeed("eval", model, *arguments, **options)

    def scores(self, *arguments, **options):
        """The JSON of the tasks."""
        self.evaluate(*arguments, "--json", "scores.json", **options)
        return json.loads((self.folder / "scores.json").read_text())["tasks"]

    def test_several_tasks_at_once(self):
        result = self.evaluate(
            *("--task", "piqa", "--data", DATA, "--task", "blimp", "--data", DATA / "blimp"),
            *("--task", "text", "--data", DATA / "texts.jsonl", "--limit", 4),
            *("--json", "scores.json", "--samples", "samples.jsonl"),
        )
        rows = [line.split() for line in result.out.splitlines()]
        self.assertEqual(rows[0], ["task", "version", "documents", "metric", "value", "stderr"])
        names = [row[0] for row in rows[1:]]
        blimp = ["blimp_causative", "blimp_wh_island", "blimp"]
        self.assertEqual(names, ["piqa", "piqa", *blimp, "text", "text", "text", "text"])
        file = json.loads((self.folder / "scores.json").read_text())
        self.assertEqual(file["format_version"], 1)
        self.assertEqual([task["name"] for task in file["tasks"]], ["piqa", "blimp", "text"])
        piqa, all_blimp, text = file["tasks"]
        self.assertEqual((piqa["documents"], all_blimp["documents"], text["documents"]), (4, 8, 3))
        lines = (self.folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        samples = [json.loads(line) for line in lines]
        self.assertEqual(len(samples), 4 + 8 + 3)
        # The scores again, from those of the documents.
        right = 0
        for sample in samples[:4]:
            values = [score["log_likelihood"] for score in sample["scores"]]
            right += values[sample["gold"]] == max(values)
        mean = right / 4
        self.assertAlmostEqual(piqa["metrics"][0]["value"], mean, delta=1e-12)
        error = math.sqrt(mean * (1 - mean) / 3)
        self.assertAlmostEqual(piqa["metrics"][0]["stderr"], error, delta=1e-12)
        total = sum(score["log_likelihood"] for s in samples[12:] for score in s["scores"])
        tokens = sum(score["tokens"] for s in samples[12:] for score in s["scores"])
        found = {metric["name"]: metric["value"] for metric in text["metrics"]}
        self.assertAlmostEqual(found["token_perplexity"], math.exp(-total / tokens), delta=1e-6)
        num_bytes = sum(len(s["continuations"][0].encode()) for s in samples[12:])
        self.assertAlmostEqual(found["bits_per_byte"], -total / num_bytes / math.log(2), delta=1e-9)

    def test_ranks_give_the_same_bits(self):
        tasks = ["--task", "piqa", "--data", DATA, "--task", "gsm8k", "--data", DATA, "--task", "text"]
        tasks += ["--data", DATA / "texts.jsonl", "--max-new-tokens", 10, "--samples", "samples.jsonl"]
        expected = self.scores(*tasks)
        samples = (self.folder / "samples.jsonl").read_bytes()
        for ranks in (2, 4):
            self.assertEqual(self.scores(*tasks, ranks=ranks), expected)
            self.assertEqual((self.folder / "samples.jsonl").read_bytes(), samples)

    def test_one_rank_prints(self):
        options = ["--task", "lambada", "--data", DATA / "lambada.jsonl"]
        result = self.evaluate(*options, ranks=2)
        self.assertEqual(result.out.count("perplexity"), 1)
        self.assertEqual(self.succeed("eval", *options, GOLDEN).out, result.out)  # in any order

    def test_a_run_is_a_model(self):
        self.train("model", "train.steps=8")
        (self.folder / "more.txt").write_text("the quick fox and lazy dog\n" * 30)
        found = self.evaluate("--data", "more.txt", "--max-length", 20, model="model").out
        self.assertIn("bits_per_byte", found)
        step = self.checkpoint("model", 8)
        self.assertEqual(self.evaluate("--data", "more.txt", "--max-length", 20, model=step).out, found)

    def test_a_task_of_ones_own(self):
        (self.folder / "mine.yaml").write_text(
            "name: mine\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\n"
            "doc_to_choice: [the fox, the dog]\ndoc_to_target: '{{a}}'\nmetrics: [acc]\n"
        )
        (self.folder / "mine.jsonl").write_text('{"q": "a house and", "a": "the dog"}\n')
        (task,) = self.scores("--task", "mine.yaml", "--data", "mine.jsonl")
        self.assertEqual(task["name"], "mine")
        self.assertIsNone(task["metrics"][0]["stderr"])  # of one document

    def test_what_is_cut_is_said(self):
        options = ["--task", "piqa", "--data", DATA]
        self.assertNotIn("warning", self.evaluate(*options).err)
        result = self.evaluate(*options, "--max-length", 12)
        self.assertIn("warning: piqa: 16 texts are longer than the 12 tokens that the model", result.err)

    def test_arguments(self):
        lambada = ["--task", "lambada", "--data", DATA / "lambada.jsonl"]
        self.refuse(["--data"], "eval", GOLDEN)
        self.refuse(["no model at nowhere"], "eval", "nowhere", *lambada)
        self.refuse(["unknown task lambda", "did you mean lambada?"], "eval", GOLDEN, "--task", "lambda", "--data", DATA)
        self.refuse(["2 --task and 1 --data"], "eval", GOLDEN, *lambada, "--task", "piqa")
        self.refuse(["--limit", "-1"], "eval", GOLDEN, *lambada, "--limit", -1)
        self.refuse(["--max-length 161", "160 positions"], "eval", GOLDEN, *lambada, "--max-length", 161)
        self.refuse(["there is no folder"], "eval", GOLDEN, *lambada, "--json", "none/scores.json")
        self.refuse(
            ["mgsm_es", "up to 256 tokens", "160", "--max-new-tokens"],
            *("eval", GOLDEN, "--task", "mgsm_es", "--data", DATA),
        )

    def test_data(self):
        (self.folder / "bad.jsonl").write_text('{"text": "a b"}\n{"txt": "a b"}\n')
        self.refuse(
            ["bad.jsonl:2: task lambada: no field \"text\"; found: txt"],
            *("eval", GOLDEN, "--task", "lambada", "--data", "bad.jsonl"),
        )
        self.refuse(["there is no none.jsonl"], "eval", GOLDEN, "--task", "piqa", "--data", "none.jsonl")
        self.refuse(["bad.jsonl:2", "--text-field"], "eval", GOLDEN, "--data", "bad.jsonl")
        (self.folder / "body.jsonl").write_text('{"body": "a fox"}\n')
        self.evaluate("--data", "body.jsonl", "--text-field", "body")
        # One message of several ranks.
        result = self.forja("eval", GOLDEN, "--task", "lambada", "--data", "bad.jsonl", ranks=2)
        self.assertEqual((result.code, len(result.errors)), (2, 1), result)

    def test_models_and_tokenizers_that_do_not_match(self):
        model = self.folder / "model"
        shutil.copytree(GOLDEN, model, ignore=shutil.ignore_patterns("data", "reference.json"))
        lambada = ["--task", "lambada", "--data", DATA / "lambada.jsonl"]
        self.evaluate(*lambada, model=model)
        (model / "tokenizer.json").unlink()
        self.refuse(["no tokenizer.json"], "eval", model, *lambada)
        self.refuse(["there is no tokenizer gone"], "eval", model, *lambada, "--tokenizer", "gone")
        big = ASSETS / "tokenizers/gpt2/tokenizer.json"
        if not big.exists():
            self.skipTest("needs tokenizers/gpt2 (set FORJA_TEST_ASSETS)")
        self.refuse(["50257 ids", "320", "do not belong together"], "eval", model, *lambada, "--tokenizer", big)


class EvalInTrainingTest(ForjaTest):
    """eval.tasks: scores of a run, whatever its layout."""

    def setUp(self):
        super().setUp()
        lines = [{"text": "the quick fox and lazy dog over"}, {"text": "el veloz kiwi\nde noche"}]
        pairs = [
            {"sentence_good": f"the quick fox {n} dog", "sentence_bad": f"fox the dog quick {n}"}
            for n in ("and", "over", "jumps", "de", "come")
        ]
        for name, documents in (("lambada", lines), ("blimp", pairs)):
            text = "".join(json.dumps(d) + "\n" for d in documents)
            (self.folder / f"{name}.jsonl").write_text(text)
        tasks = [{"name": n, "path": f"{n}.jsonl"} for n in ("lambada", "blimp")]
        tasks.append({"name": "text", "path": "lambada.jsonl"})
        self.write_config("run.yaml", eval={"tasks": tasks})

    def task_scores(self, name):
        return [line["tasks"] for line in self.metrics(name) if "tasks" in line]

    def assert_close(self, found, expected):
        self.assertEqual(found.keys(), expected.keys())
        for task, metrics in expected.items():
            self.assertEqual(found[task].keys(), metrics.keys())
            for metric, value in metrics.items():
                # Perplexities are exponentials of sums of fp32.
                self.assertAlmostEqual(found[task][metric], value, delta=1e-4 * max(1, abs(value)), msg=(task, metric))

    def test_scores_are_those_of_forja_eval(self):
        self.train("model")
        scores = self.task_scores("model")
        self.assertEqual(len(scores), 2)  # after steps 4 and 8
        arguments = ["eval", "model", "--max-length", 32, "--json", "scores.json"]
        for name, file in (("lambada", "lambada"), ("blimp", "blimp"), ("text", "lambada")):
            arguments += ["--task", name, "--data", f"{file}.jsonl"]
        self.succeed(*arguments)
        expected = {}
        for task in json.loads((self.folder / "scores.json").read_text())["tasks"]:
            metrics = expected.setdefault(task["name"], {})
            for metric in task["metrics"]:
                metrics[metric["name"]] = metric["value"]
                if metric["stderr"] is not None:
                    metrics[metric["name"] + "_stderr"] = metric["stderr"]
        self.assert_close(scores[-1], expected)
        self.assertNotEqual(scores[0], scores[1])

    def test_every_layout_gives_the_same(self):
        self.train("alone")
        (expected,) = self.task_scores("alone")[-1:]
        layouts = {
            "tp": ["parallel.tp=2"],
            "pp": ["parallel.pp=2"],
            "zero": ["parallel.zero=3"],
        }
        for name, layout in layouts.items():
            with self.subTest(name):
                self.train(name, *layout, ranks=2)
                (found,) = self.task_scores(name)[-1:]
                self.assert_close(found, expected)

    def test_packed_documents_are_scored_alone(self):
        self.train("one", "data.document_mask=true")
        for name, layout in (("many", "train.micro_batch_size=1"), ("stages", "parallel.pp=2")):
            self.train(name, "data.document_mask=true", layout, ranks=2)
            self.assert_close(self.task_scores(name)[-1], self.task_scores("one")[-1])
        self.succeed("eval", "one", "--max-length", 32, "--task", "blimp", "--data", "blimp.jsonl", "--json", "s.json")
        (task,) = json.loads((self.folder / "s.json").read_text())["tasks"]
        self.assertEqual(self.task_scores("one")[-1]["blimp"]["acc"], task["metrics"][0]["value"])

    def test_faults(self):
        def refuse(words, *tasks):
            self.write_config("run.yaml", eval={"tasks": list(tasks)})
            self.refuse(words, "train", "run.yaml")

        refuse(["eval.tasks[0]", "name"], {"path": "blimp.jsonl"})
        refuse(["eval.tasks[0]", "path"], {"name": "blimp"})
        refuse(["unknown task blimb", "did you mean blimp?"], {"name": "blimb", "path": "blimp.jsonl"})
        refuse(["there is no", "none.jsonl"], {"name": "blimp", "path": "none.jsonl"})
        (self.folder / "mgsm_es.tsv").write_text("una\t1\n")
        refuse(["mgsm_es generates texts", "forja eval"], {"name": "mgsm_es", "path": "mgsm_es.tsv"})
        blimp = {"name": "blimp", "path": "blimp.jsonl"}
        refuse(["two tasks have the name blimp"], blimp, blimp)
