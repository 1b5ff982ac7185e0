# SPDX-License-Identifier: Apache-2.0
"""`forja eval` beside lm-evaluation-harness: the same model, files, documents and prompts.

    cmake --build build/release --target forja
    VENV/bin/python benchmarks/eval/run.py --model HF_DIRECTORY --assets FOLDER [--limit N] [--tasks a,b] [--ranks N] [--out FILE]

VENV holds torch, transformers and lm_eval. The harness runs its own tasks' descriptions (prompts, choices, filters, metrics: the
YAML files in its package), of which only the source of the data is replaced by the files that Forja reads. Everything is fp32 on
the CPU. Beside the scores, every document's log-likelihoods, greedy flags or generated text are compared one by one.

MMLU's files are not among the assets: sums of our own in its format stand for them.
"""

import argparse
import csv
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval  # noqa: E402
from lm_eval import tasks as harness_tasks  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
HARNESS = Path(harness_tasks.__file__).parent


def jsonl(path, documents):
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents), encoding="utf-8")
    return str(path)


def read_jsonl(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def make_mmlu(folder, count=40):
    """Sums, in MMLU's format: two subjects, of which each has a file of examples."""
    rng = random.Random(3)
    folder.mkdir()
    for subject in ("abstract_algebra", "anatomy"):
        for part, lines in (("dev", 5), ("test", count)):
            with open(folder / f"{subject}_{part}.csv", "w", newline="", encoding="utf-8") as file:
                for _ in range(lines):
                    a, b, gold = rng.randint(1, 50), rng.randint(1, 50), rng.randrange(4)
                    choices = [a + b, a + b + 1, a * b, abs(a - b) + 7]
                    choices[0], choices[gold] = choices[gold], choices[0]
                    csv.writer(file).writerow([f'How much are "{a}" and {b}? ', *choices, "ABCD"[gold]])


def make_texts(source, path):
    """Documents of the length of articles."""
    text = Path(source).read_text(encoding="utf-8")[:200000]
    return jsonl(path, [{"text": text[i : i + 20000]} for i in range(0, len(text), 20000)])


class Case:
    """One task: what Forja is told, and the harness's description with the data replaced."""

    def __init__(self, name, forja, include=None, fewshot=None, **overrides):
        self.name, self.forja, self.fewshot = name, forja, fewshot
        self.yaml = {"task": f"{name}_local", "dataset_path": "json", "dataset_name": None, **overrides}
        if include:
            self.yaml["include"] = str(HARNESS / include)


def data(**files):
    return {"dataset_kwargs": {"data_files": files}}


def csv_documents(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [{"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5])} for r in csv.reader(file)]


def make_cases(assets, work):
    piqa = read_jsonl(assets / "eval/piqa/valid.jsonl")
    labels = (assets / "eval/piqa/valid-labels.lst").read_text().split()
    piqa = jsonl(work / "piqa.jsonl", [{**d, "label": int(label)} for d, label in zip(piqa, labels, strict=True)])
    cases = [Case("piqa", ["piqa", assets / "eval/piqa"], "piqa/piqa.yaml", training_split=None, **data(validation=piqa))]
    lambada = assets / "eval/lambada/lambada_test.jsonl"
    cases.append(
        Case("lambada", ["lambada", lambada], "lambada/lambada_openai.yaml", tag=[], **data(test=str(lambada)))
    )
    with zipfile.ZipFile(assets / "eval/blimp/BLiMP.zip") as archive:
        names = [n for n in archive.namelist() if n.startswith("data/") and n.endswith(".jsonl")]
        archive.extractall(work / "blimp", names)
    for name in ("causative", "principle_A_case_2", "wh_island"):
        path = work / "blimp/data" / f"{name}.jsonl"
        cases.append(Case(f"blimp_{name}", ["blimp", path], f"blimp/{name}.yaml", **data(train=str(path))))
    for task, language in (("esbbq", "es"), ("cabbq", "ca")):
        path = assets / f"eval/esbbq-cabbq/Nationality.{language}.jsonl"
        include = f"{task}/_{task}_common_yaml"
        documents = read_jsonl(path)
        kept = jsonl(work / f"{task}.jsonl", [{k: v for k, v in d.items() if k != "source"} for d in documents])
        cases.append(Case(task, [task, path], include, **data(test=kept)))
    make_mmlu(work / "mmlu")
    for subject in ("abstract_algebra", "anatomy"):
        parts = {
            p: jsonl(work / f"{subject}_{p}.jsonl", csv_documents(work / f"mmlu/{subject}_{p}.csv")) for p in ("dev", "test")
        }
        for shots in (0, 5):
            cases.append(
                Case(
                    f"mmlu_{subject}" + (f"_{shots}shot" if shots else ""),
                    ["mmlu", work / f"mmlu/{subject}_test.csv"],
                    f"mmlu/default/mmlu_{subject}.yaml",
                    shots,
                    tag=[],
                    **data(**parts),
                )
            )
    gsm8k = {p: str(assets / f"finetune/gsm8k/{p}.jsonl") for p in ("train", "test")}
    cases.append(Case("gsm8k", ["gsm8k", assets / "finetune/gsm8k"], "gsm8k/gsm8k.yaml", tag=[], **data(**gsm8k)))
    for language in ("en", "es", "de", "fr"):
        path = assets / f"finetune/mgsm/mgsm_{language}.tsv"
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        documents = [{"question": q, "answer": None, "answer_number": a} for q, a in rows]
        cases.append(
            Case(
                f"mgsm_{language}",
                [f"mgsm_{language}", path],
                f"mgsm/direct/mgsm_direct_{language}.yaml",
                tag=[],
                training_split=None,
                **data(test=jsonl(work / f"mgsm_{language}.jsonl", documents)),
            )
        )
    texts = make_texts(assets / "corpora/wikitext-2/test.txt", work / "texts.jsonl")
    cases.append(
        Case(
            "text",
            ["text", texts],
            output_type="loglikelihood_rolling",
            test_split="test",
            doc_to_text="",
            doc_to_target="{{text}}",
            metric_list=[{"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
            **data(test=texts),
        )
    )
    return cases


def run_harness(model, case, limit, work):
    import yaml

    folder = work / "tasks" / case.name
    folder.mkdir(parents=True)
    (folder / f"{case.name}.yaml").write_text(yaml.safe_dump(case.yaml))
    manager = harness_tasks.TaskManager(include_path=str(folder), include_defaults=False)
    out = lm_eval.simple_evaluate(
        model=model,
        tasks=[case.yaml["task"]],
        num_fewshot=case.fewshot,
        limit=limit,
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=2,
    )
    samples = {}
    for s in out["samples"][case.yaml["task"]]:
        if not isinstance(s["resps"][0][0], str):  # filters give their own copies of a document
            s["values"] = [r[0] for r in s["resps"]]
        else:
            s["values"] = s["resps"][0][0]
        samples[s["doc_id"]] = s["values"]
    return out["results"][case.yaml["task"]], [samples[i] for i in sorted(samples)]


def run_forja(binary, model, case, limit, work, ranks):
    files = work / "scores.json", work / "samples.jsonl"
    task, path = case.forja
    command = [binary, "eval", model, "--task", task, "--data", path, "--limit", limit]
    command += ["--json", files[0], "--samples", files[1]]
    if case.fewshot is not None:
        command += ["--num-fewshot", case.fewshot]
    if ranks > 1:
        command = ["mpirun", "-n", ranks, "--oversubscribe", *command]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr}")
    values = []
    for s in read_jsonl(files[1]):
        if "text" in s:
            values.append(s["text"])
        elif task == "text":
            values.append([sum(r["log_likelihood"] for r in s["scores"])])
        else:
            values.append([(r["log_likelihood"], r["greedy"]) for r in s["scores"]])
    return json.loads(files[0].read_text())["tasks"][0], values


def compare_documents(harness, forja):
    """The largest relative difference of log-likelihoods, greedy flags and texts that differ, what was compared."""
    assert len(harness) == len(forja), (len(harness), len(forja))
    worst, differing, count = 0.0, 0, 0
    for h, f in zip(harness, forja):
        if isinstance(f, str):
            count += 1
            differing += h.strip() != f.strip()
            continue
        assert len(h) == len(f), (h, f)
        for x, y in zip(h, f):
            count += 1
            if isinstance(y, tuple):
                differing += bool(x[1]) != y[1]
                x, y = x[0], y[0]
            worst = max(worst, abs(x - y) / max(1.0, abs(x)))
    return worst, differing, count


def shown(value):
    return "none" if value is None or value == "N/A" or (isinstance(value, float) and math.isnan(value)) else f"{value:.6g}"


def rows_of(case, harness, forja, documents):
    worst, differing, count = documents
    for metric in forja["metrics"]:
        key = f"{metric['name']},{metric.get('filter', 'none')}"
        if key not in harness:
            continue
        error = harness.get(key.replace(",", "_stderr,", 1))
        if metric["name"] == "perplexity":
            error = None  # bootstrapped there
        yield [
            case.name,
            str(forja["documents"]),
            metric["name"] + (f", {metric['filter']}" if "filter" in metric else ""),
            shown(harness[key]),
            shown(metric["value"]),
            shown(error),
            shown(metric["stderr"]),
            f"{worst:.1e}",
            f"{differing} of {count}",
        ]


HEADER = ["task", "documents", "metric", "harness", "Forja", "stderr, harness", "stderr, Forja", "largest difference", "differ"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--assets", default=os.environ.get("FORJA_TEST_ASSETS", ROOT / "../shared/assets"))
    parser.add_argument("--binary", default=ROOT / "build/release/forja")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--generation-limit", type=int, default=10, help="documents of tasks that generate")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--tasks", default="")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    lines = ["| " + " | ".join(HEADER) + " |", "| " + " | ".join("---" for _ in HEADER) + " |"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = HFLM(pretrained=arguments.model, dtype="float32", device="cpu", batch_size=8)
        for case in make_cases(Path(arguments.assets), work):
            if arguments.tasks and case.name not in arguments.tasks.split(","):
                continue
            limit = arguments.generation_limit if case.forja[0].startswith(("gsm8k", "mgsm")) else arguments.limit
            scores, expected = run_harness(model, case, limit, work)
            found, values = run_forja(arguments.binary, arguments.model, case, limit, work, arguments.ranks)
            for row in rows_of(case, scores, found, compare_documents(expected, values)):
                lines.append("| " + " | ".join(row) + " |")
                print(lines[-1], flush=True)
    if arguments.out:
        Path(arguments.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
