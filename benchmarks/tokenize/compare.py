# SPDX-License-Identifier: Apache-2.0
"""Tokenizing speed of Forja against Hugging Face tokenizers, one thread each, on the same texts.

    python3 -m venv VENV && VENV/bin/pip install tokenizers
    VENV/bin/python benchmarks/tokenize/compare.py build/release/encode_corpus \
        ASSETS/corpora/eltec-es.jsonl ASSETS/tokenizers/*/tokenizer.json

The two take turns, so that a change of the machine's speed meets both, and CPU seconds are counted,
so that other programs on the machine matter little; what is printed is the median of the repeats,
the spread (lowest to highest), and the ratio of the medians. The ids of both must be the same.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402  (reads the variables above)


def read_texts(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines if line.strip()]


def fnv1a(documents):
    value = 0xCBF29CE484222325
    for ids in documents:
        for number in ids:
            for byte in number.to_bytes(4, "little"):
                value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


class Forja:
    def __init__(self, program, tokenizer, corpus):
        self.process = subprocess.Popen([program, tokenizer, corpus], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __call__(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        seconds, tokens, digest = self.process.stdout.readline().split()
        return float(seconds), int(tokens), digest


class HuggingFace:
    """encode_batch_fast, which leaves out the offsets, one document at a time."""

    def __init__(self, tokenizer, texts):
        self.tokenizer = tokenizers.Tokenizer.from_file(tokenizer)
        self.texts = texts
        self.digest = None

    def __call__(self):
        start = time.process_time()
        encode = self.tokenizer.encode_batch_fast
        encodings = [encode([t], add_special_tokens=False)[0] for t in self.texts]
        seconds = time.process_time() - start
        documents = [e.ids for e in encodings]
        if self.digest is None:
            self.digest = fnv1a(documents)
        return seconds, sum(map(len, documents)), self.digest


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def summary(seconds, size):
    rates = sorted(size / s / 1e6 for s in seconds)
    return f"{statistics.median(rates):7.1f} ({rates[0]:.1f} to {rates[-1]:.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("corpus")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    texts = read_texts(args.corpus)
    size = sum(len(t.encode("utf-8")) for t in texts)
    print(f"{cpu_model()}, one thread each, {args.repeats} repeats in turns, "
          f"{os.path.basename(args.corpus)}: {len(texts)} documents, {size / 1e6:.1f} MB of text")
    print(f"tokenizers {tokenizers.__version__}, Python {platform.python_version()}; "
          "MB of text a CPU second, median (lowest to highest)")
    for path in args.tokenizers:
        forja, hugging_face = Forja(args.program, path, args.corpus), HuggingFace(path, texts)
        times = ([], [])
        for _ in range(args.repeats):
            a, b = forja(), hugging_face()
            if a[1:] != b[1:]:
                raise SystemExit(f"{path}: the ids differ: forja {a[1:]}, tokenizers {b[1:]}")
            times[0].append(a[0])
            times[1].append(b[0])
        forja.process.stdin.close()
        forja.process.wait()
        ratio = statistics.median(times[1]) / statistics.median(times[0])
        name = os.path.basename(os.path.dirname(path)) or path
        print(f"{name:10} forja {summary(times[0], size)}   tokenizers {summary(times[1], size)}   "
              f"forja is {ratio:.1f} times as fast; {a[1]} equal ids")


if __name__ == "__main__":
    main()
