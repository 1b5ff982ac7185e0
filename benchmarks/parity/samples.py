# SPDX-License-Identifier: Apache-2.0
"""Compares a dataset of samples with what transformers makes of the same file, token by token.

    forja tokenize FILE --tokenizer DIR --out DATASET --samples auto
    python benchmarks/parity/samples.py FILE DIR DATASET [QUESTION_FIELD ANSWER_FIELD]

FILE: messages, ShareGPT conversations or, with the names of the two fields, questions and answers. DIR has a chat template.
"""

import json
import sys
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

ROLES = {"human": "user", "gpt": "assistant"}


def messages_of(record, fields):
    if fields:
        return [
            {"role": "user", "content": record[fields[0]]},
            {"role": "assistant", "content": record[fields[1]]},
        ]
    if "messages" in record:
        return record["messages"]
    return [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in record["conversations"]]


def main():
    file, folder, dataset, *fields = sys.argv[1:]
    text = Path(file).read_text(encoding="utf-8")
    records = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    manifest = json.loads((Path(dataset) / "manifest.json").read_text())
    dtype = {"u16": np.uint16, "uint16": np.uint16}.get(manifest["dtype"], np.int32)
    samples = []
    for shard in manifest["shards"]:
        path = str(Path(dataset) / shard["name"])
        ends = np.fromfile(path + ".documents", np.int64)
        samples += np.split(np.fromfile(path + ".tokens", dtype), ends[:-1])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    different = 0
    for record, sample in zip(records, samples, strict=True):
        ids = tokenizer.apply_chat_template(messages_of(record, fields), tokenize=True, return_dict=True)["input_ids"]
        different += sample.tolist() != ids
    print(f"{len(samples)} samples, {sum(map(len, samples))} tokens: {different} differ from transformers'")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
