# SPDX-License-Identifier: Apache-2.0
"""Writes eval/: a tiny random model, small files of every built-in task's format, and what lm-evaluation-harness makes of them.

    VENV/bin/python make_eval_reference.py      requirements.txt and lm_eval (0.4.13); no network is needed

The harness runs its own descriptions of the tasks, of which the source of the data and the length of answers are replaced
(benchmarks/eval/run.py), in float64. Its float32 is computed too: how far that is off is what a right program may be off by, and the
generated texts must be the same in both.
"""

import json
import random
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks/eval"))
from run import HFLM, Case, csv_documents, data, jsonl, make_mmlu, run_harness  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

VOCABULARY, POSITIONS, NEW_TOKENS = 320, 160, 12
WORDS = "the fox saw a dog in an old house and it ran to the green door while rain fell over all hills".split()
PALABRAS = "el zorro vio un perro en la casa vieja y corrió hasta la puerta verde mientras llovía".split()


def sentence(rng, words=WORDS, count=8):
    return " ".join(rng.choice(words) for _ in range(rng.randint(3, count)))


def sum_problem(rng):
    a, b = rng.randint(2, 90), rng.randint(2, 90)
    return f"How many are {a} foxes and {b} dogs?", f"There are {a} + {b} = <<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"


def bias_documents(rng, unknown):
    """Everything that the metrics look at, in random combinations."""
    groups = [("El zorro", ["el zorro", "m, zorro"]), ("El perro", ["el perro", "perro"])]
    for i in range(24):
        ambiguous = i % 2 == 0
        first, second = rng.sample(groups, 2)
        yield {
            "question_polarity": rng.choice(["neg", "nonneg", "nonneg"]),
            "context_condition": "ambig" if ambiguous else "disambig",
            "stereotyped_groups": ["zorro"],
            "answer_info": {"ans0": first[1], "ans1": second[1], "ans2": ["unknown"]},
            "context": sentence(rng, PALABRAS) + ".",
            "question": "¿" + sentence(rng, PALABRAS, 4) + "?",
            "ans0": first[0],
            "ans1": second[0],
            "ans2": unknown,
            "question_type": "n/a" if ambiguous else rng.choice(["pro-stereo", "anti-stereo"]),
            "label": 2 if ambiguous else rng.randrange(2),
        }


def write_data(folder):
    rng = random.Random(7)
    folder.mkdir(exist_ok=True)
    jsonl(folder / "valid.jsonl", [{"goal": sentence(rng), "sol1": sentence(rng), "sol2": sentence(rng)} for _ in range(8)])
    (folder / "valid-labels.lst").write_text("".join(f"{rng.randrange(2)}\n" for _ in range(8)))
    jsonl(folder / "lambada.jsonl", [{"text": f"“{sentence(rng)}”,\n{sentence(rng)}"} for _ in range(8)])
    (folder / "blimp").mkdir(exist_ok=True)
    for name in ("causative", "wh_island"):
        pairs = [{"sentence_good": sentence(rng).capitalize() + ".", "sentence_bad": sentence(rng)} for _ in range(5)]
        jsonl(folder / "blimp" / f"{name}.jsonl", pairs)
    jsonl(folder / "bias.es.jsonl", bias_documents(rng, "desconocido"))
    jsonl(folder / "bias.ca.jsonl", bias_documents(rng, "desconegut"))
    if not (folder / "mmlu").exists():
        make_mmlu(folder / "mmlu", 6)
    for part, count in (("train", 30), ("test", 5)):
        problems = [sum_problem(rng) for _ in range(count)]
        jsonl(folder / f"{part}.jsonl", [{"question": q, "answer": a} for q, a in problems])
    for language in ("en", "es", "de", "fr"):
        rows = [(sentence(rng, PALABRAS) + "?", rng.randint(1, 2000)) for _ in range(3)]
        (folder / f"mgsm_{language}.tsv").write_text("".join(f"{q}\t{a:,}\n" for q, a in rows), encoding="utf-8")
    texts = [" ".join(sentence(rng) for _ in range(n)) for n in (1, 60, 200)]
    texts[1] = texts[1].replace("door", "door\u00a0\n\n ").replace("house", "<s> casa ñandú")
    jsonl(folder / "texts.jsonl", [{"text": t + "\n"} for t in texts])


def make_tokenizer(folder, texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=sorted(alphabet))
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


def make_model(folder):
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that tokens are not equally likely
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)
    model.save_pretrained(folder)


def make_cases(folder, work):
    labels = (folder / "valid-labels.lst").read_text().split()
    piqa = [json.loads(line) for line in open(folder / "valid.jsonl", encoding="utf-8")]
    merged = jsonl(work / "piqa.jsonl", [{**d, "label": int(x)} for d, x in zip(piqa, labels, strict=True)])
    yield Case("piqa", ["piqa", "."], "piqa/piqa.yaml", training_split=None, **data(validation=merged))
    lambada = str(folder / "lambada.jsonl")
    yield Case("lambada", ["lambada", "lambada.jsonl"], "lambada/lambada_openai.yaml", tag=[], **data(test=lambada))
    for name in ("causative", "wh_island"):
        path = f"blimp/{name}.jsonl"
        yield Case(f"blimp_{name}", ["blimp", path], f"blimp/{name}.yaml", **data(train=str(folder / path)))
    for task, language in (("esbbq", "es"), ("cabbq", "ca")):
        path = f"bias.{language}.jsonl"
        yield Case(task, [task, path], f"{task}/_{task}_common_yaml", **data(test=str(folder / path)))
    for subject in ("abstract_algebra", "anatomy"):
        parts = {
            p: jsonl(work / f"{subject}_{p}.jsonl", csv_documents(folder / f"mmlu/{subject}_{p}.csv"))
            for p in ("dev", "test")
        }
        for shots in (0, 2):
            path, include = f"mmlu/{subject}_test.csv", f"mmlu/default/mmlu_{subject}.yaml"
            yield Case(f"mmlu_{subject}_{shots}", ["mmlu", path], include, shots, tag=[], **data(**parts))
    short = {"do_sample": False, "temperature": 0.0, "max_gen_toks": NEW_TOKENS}
    parts = {p: str(folder / f"{p}.jsonl") for p in ("train", "test")}
    until = {"until": ["Question:", "</s>", "<|im_end|>"]}
    for shots in (0, 2, 5):
        yield Case(
            f"gsm8k_{shots}",
            ["gsm8k", "."],
            "gsm8k/gsm8k.yaml",
            shots,
            tag=[],
            generation_kwargs={**short, **until},
            **data(**parts),
        )
    for language, question in (("en", "Question:"), ("es", "Pregunta:"), ("de", "Frage:"), ("fr", "Question :")):
        path = f"mgsm_{language}.tsv"
        rows = [line.split("\t") for line in (folder / path).read_text(encoding="utf-8").splitlines()]
        documents = [{"question": q, "answer": None, "answer_number": a} for q, a in rows]
        yield Case(
            f"mgsm_{language}",
            [f"mgsm_{language}", path],
            f"mgsm/direct/mgsm_direct_{language}.yaml",
            tag=[],
            training_split=None,
            generation_kwargs={**short, "until": [question, "</s>", "<|im_end|>"]},
            **data(test=jsonl(work / f"mgsm_{language}.jsonl", documents)),
        )
    yield Case(
        "text",
        ["text", "texts.jsonl"],
        output_type="loglikelihood_rolling",
        test_split="test",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        **data(test=str(folder / "texts.jsonl")),
    )


def without_arguments(scores):
    """"acc,none": 0.5; a standard error of a perplexity is bootstrapped, and left out."""
    return {
        k: None if v == "N/A" else v
        for k, v in scores.items()
        if "," in k and not k.startswith("perplexity_stderr") and isinstance(v, (int, float, str))
    }


def main():
    import tempfile

    folder = HERE / "eval"
    folder.mkdir(exist_ok=True)
    write_data(folder / "data")
    texts = [p.read_text(encoding="utf-8") for p in sorted((folder / "data").rglob("*")) if p.is_file()]
    make_tokenizer(folder, texts)
    make_model(folder)
    out, worst = [], 0.0
    with tempfile.TemporaryDirectory() as temporary:
        exact = HFLM(pretrained=str(folder), dtype="float64", device="cpu", batch_size=1)
        single = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=4)
        for case in make_cases(folder / "data", Path(temporary)):
            scores, documents = run_harness(exact, case, None, Path(temporary) / "64")
            _, in_single = run_harness(single, case, None, Path(temporary) / "32")
            for x, y in zip(documents, in_single, strict=True):
                if isinstance(x, str):
                    assert x == y, (case.name, x, y)
                    continue
                for a, b in zip(x, y, strict=True):
                    a, b = (v if isinstance(v, float) else v[0] for v in (a, b))
                    worst = max(worst, abs(a - b) / max(1.0, abs(a)))
            case_json = {"name": case.name, "task": case.forja[0], "path": case.forja[1], "num_fewshot": case.fewshot}
            out.append({**case_json, "scores": without_arguments(scores), "documents": documents})
    reference = {"max_new_tokens": NEW_TOKENS, "float32_relative_error": worst, "cases": out}
    (folder / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(out)} cases; float32 is off by {worst:.1e}")


if __name__ == "__main__":
    main()
