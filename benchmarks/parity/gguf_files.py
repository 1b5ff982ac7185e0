# SPDX-License-Identifier: Apache-2.0
"""GGUF files of `forja convert` beside those who read them: gguf-py, llama.cpp and transformers.

    VENV/bin/python benchmarks/parity/gguf_files.py --assets FOLDER [--forja build/release/forja] [--out FILE]

VENV holds torch, transformers, safetensors, gguf and, where there is one, llama-cpp-python. Models: those of
tests/golden, tiny and random, and stories260K, pretrained.

  tensors       every tensor of every file, read by gguf-py, bitwise what gguf-py makes of the Hugging Face tensor
  logits        an error is ||found - truth|| / ||truth|| over all logits, truth being transformers in float64
  tokenizers    the ids that llama.cpp gives the texts of its own test vectors, beside the vectors
  stories260K   greedy text of llama.cpp and of Forja
"""

import argparse
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
# Its name is also that of a library, which transformers imports.
HELPER = importlib.util.spec_from_file_location("small_sentencepiece", ROOT / "tests/end_to_end/sentencepiece.py")
small_sentencepiece = importlib.util.module_from_spec(HELPER)
HELPER.loader.exec_module(small_sentencepiece)

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

MODELS = ["gpt2", "llama", "llama3_rope", "llama_linear_rope", "llama_yarn_rope", "mistral", "qwen2", "qwen3"]
DTYPES = {"fp32": gguf.GGMLQuantizationType.F32, "fp16": gguf.GGMLQuantizationType.F16,
          "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
# Tokenizer, vector, ids beyond the tokenizer.
TOKENIZERS = [("gpt2/tokenizer.json", "gpt-2", 7), ("llama3/tokenizer.json", "llama-bpe", 0),
              ("llama3/tokenizer.model", "llama-bpe", 3), ("qwen2.5/tokenizer.json", "qwen2", 11),
              ("llama2/tokenizer.model", "llama-spm", 5), ("mistral/tokenizer.json", None, 0)]
TEXT = "Once upon a time"
F32_BOUND = 1e-5
GELU_BOUND = 2e-3  # ggml has a table of GELU in fp16


def relative(found, truth):
    return float(np.linalg.norm(found.astype(np.float64) - truth) / np.linalg.norm(truth))


class Work:
    def __init__(self, options):
        self.forja, self.assets, self.lines = options.forja, Path(options.assets), []
        self.folder = Path(tempfile.mkdtemp(prefix="gguf-"))

    def say(self, line=""):
        print(line, flush=True)
        self.lines.append(line)

    def convert(self, source, dtype, *more):
        target = self.folder / f"{Path(source).name}-{dtype}.gguf"
        target.unlink(missing_ok=True)
        subprocess.run([self.forja, "convert", source, target, "--dtype", dtype, *more], check=True,
                       capture_output=True)
        return target


def turned(weights, heads):
    """Rows of each head from (i, i + d/2) to (2i, 2i + 1)."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def wanted_tensors(folder):
    """Name -> fp32 array, by gguf-py's own table of names."""
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    arch = {"gpt2": "GPT2", "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}[kind]
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch], layers)
    out = {}
    for name, values in load_file(folder / "model.safetensors").items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if kind == "gpt2" and values.ndim == 2 and ".c_" in name:
            values = values.T
        if arch == "LLAMA" and "q_proj" in name:
            values = turned(values, config["num_attention_heads"])
        if arch == "LLAMA" and "k_proj" in name:
            values = turned(values, config["num_key_value_heads"])
        out[names.get_name(name, try_suffixes=(".weight", ".bias"))] = np.ascontiguousarray(values, np.float32)
    return out


def compare_tensors(file, folder, dtype):
    """How many tensors; throws where one differs."""
    wanted, found = wanted_tensors(folder), {t.name: t for t in gguf.GGUFReader(file).tensors}
    extra = set(found) - set(wanted)
    assert extra <= {"rope_freqs.weight"} and not set(wanted) - set(found), (extra, set(wanted) - set(found))
    for name, values in wanted.items():
        t, kind = found[name], DTYPES[dtype]
        if values.ndim == 1 or name == "position_embd.weight":
            kind = DTYPES["fp32"]
        elif dtype == "q8_0" and values.shape[-1] % 32:
            kind = DTYPES["fp16"]
        assert t.tensor_type == kind and list(t.shape) == list(values.shape)[::-1], name
        assert t.data.tobytes() == gguf.quants.quantize(values, kind).tobytes(), name
        again = gguf.quants.dequantize(t.data, kind).reshape(values.shape)
        bound = {"fp32": 0, "fp16": 2 ** -10, "bf16": 2 ** -7, "q8_0": 1 / 100}[dtype]
        assert np.abs(again - values).max() <= bound * np.abs(values).max(), name
    return len(wanted)


def llama_cpp_logits(file, ids):
    model = llama_cpp.Llama(str(file), n_ctx=64, n_batch=64, logits_all=True, type_k=0, type_v=0, verbose=False)
    out = []
    for row in ids:
        model.reset()
        model.eval(row.tolist())
        out.append(model.scores[: len(row)].copy())
    return np.stack(out)


def transformers_error(file, ids, truth, **more):
    """In words where it cannot load the file."""
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager", **more).eval()
    except RuntimeError as e:
        assert "mismatched" in str(e), e
        return "other shapes"
    with torch.no_grad():
        return f"{relative(model(input_ids=torch.tensor(ids), use_cache=False).logits.numpy(), truth):.1e}"


def golden(work):
    work.say("| model | tensors | llama.cpp fp32 | fp16 | bf16 | q8_0 | transformers fp32 | with config.json |")
    work.say("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in MODELS:
        folder = ROOT / "tests/golden" / name
        reference = load_file(folder / "reference.safetensors")
        ids, truth, cells, count = reference["input_ids"], reference["logits"], [], 0
        if name == "mistral":  # as far as its window
            ids, truth = ids[:, :7], truth[:, :7]
        for dtype in DTYPES:
            file = work.convert(folder, dtype)
            count = compare_tensors(file, folder, dtype)
            if not llama_cpp:
                cells.append("-")
                continue
            error = relative(llama_cpp_logits(file, ids), truth)
            assert dtype != "fp32" or error < (GELU_BOUND if name == "gpt2" else F32_BOUND), (name, error)
            cells.append(f"{error:.1e}")
        file = work.folder / f"{name}-fp32.gguf"
        cells.append(transformers_error(file, ids, truth))
        config = transformers.AutoConfig.from_pretrained(folder)  # it has no GGUF names for "mistral"
        known = config.model_type != "mistral"
        cells.append(transformers_error(file, ids, truth, config=config) if known else "-")
        work.say(f"| {name} | {count} | " + " | ".join(cells) + " |")


def small_model(folder, vocabulary):
    """A Llama of one layer, for its vocabulary's sake."""
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary,
              "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 2, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
              "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    ones, square = np.ones(32, np.float32), np.zeros((32, 32), np.float32)
    layer = {f"self_attn.{x}_proj": square for x in "qkvo"}
    layer |= {f"mlp.{x}_proj": square for x in ("gate", "up", "down")}
    layer |= {"input_layernorm": ones, "post_attention_layernorm": ones}
    tensors = {f"model.layers.0.{name}.weight": value for name, value in layer.items()}
    tensors |= {"model.embed_tokens.weight": np.zeros((vocabulary, 32), np.float32), "model.norm.weight": ones}
    save_file(tensors, folder / "model.safetensors")


def vector_texts(work, name):
    base = work.assets / f"vectors/llama.cpp-tokenizers/ggml-vocab-{name}.gguf"
    texts = Path(f"{base}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    ids = [[int(i) for i in line.split()] for line in Path(f"{base}.out").read_text().splitlines()]
    return list(zip(texts, ids))


def tokenizers(work):
    work.say("| tokenizer | ids of the model | tokenizer.ggml.model, pre | texts with the expected ids |")
    work.say("| --- | --- | --- | --- |")
    for path, vector, more in TOKENIZERS:
        file = work.assets / "tokenizers" / path
        said = subprocess.run([work.forja, "inspect", file], check=True, capture_output=True, text=True).stdout
        size = int(re.search(r"vocabulary\s+(\d+)", said)[1])
        folder = work.folder / path.replace("/", "-")
        small_model(folder, size + more)
        target = work.convert(folder, "q8_0", "--tokenizer", file)
        keys = {f.name: f.contents() for f in gguf.GGUFReader(target).fields.values() if f.name.startswith("tokenizer")}
        assert len(keys["tokenizer.ggml.tokens"]) == size + more
        model = llama_cpp.Llama(str(target), vocab_only=True, verbose=False)
        if vector:
            cases = vector_texts(work, vector)
        else:  # no vectors: transformers' own ids
            own = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))
            cases = [(text, own.encode(text, add_special_tokens=False)) for text, _ in vector_texts(work, "llama-spm")]
        good = 0
        for text, ids in cases:
            found = model.tokenize(text.encode(), add_bos=False, special=False)
            good += found == ids
            if found != ids:
                print("differs:", repr(text), found, ids, file=sys.stderr)
        work.say(f"| {path} | {size} + {more} unused | {keys['tokenizer.ggml.model']}, {keys['tokenizer.ggml.pre']} "
                 f"| {good} of {len(cases)} |")


def stories(work):
    source, folder = work.assets / "weights/stories260K", work.folder / "stories"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, folder)
    pieces = small_sentencepiece.read_llama2c_tokenizer((source / "tok512.bin").read_bytes())
    (folder / "tokenizer.model").write_bytes(small_sentencepiece.sentencepiece_model(pieces))
    wanted = subprocess.run([work.forja, "generate", folder, "--prompt", TEXT, "--greedy", "--max-new-tokens", "200"],
                            check=True, capture_output=True, text=True).stdout.rstrip("\n")
    for dtype in DTYPES:
        file = work.convert(folder, dtype)
        compare_tensors(file, folder, dtype)
        model = llama_cpp.Llama(str(file), n_ctx=512, type_k=0, type_v=0, verbose=False)
        out = model(TEXT, max_tokens=200, temperature=0.0, top_k=1, repeat_penalty=1.0)
        found = TEXT + out["choices"][0]["text"]
        same = next((i for i, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted)))
        work.say(f"| {dtype} | {file.stat().st_size} | {same} of {len(wanted)} |")
        assert dtype != "fp32" or found == wanted, (found, wanted)
    return wanted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--assets", required=True)
    parser.add_argument("--forja", default=str(ROOT / "build/release/forja"))
    parser.add_argument("--out")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    work = Work(options)
    work.say(f"gguf-py, transformers {transformers.__version__}, PyTorch {torch.__version__}, llama-cpp-python "
             f"{llama_cpp.__version__ if llama_cpp else 'not there'}\n")
    golden(work)
    if llama_cpp:
        work.say()
        tokenizers(work)
        work.say("\n| stories260K | bytes | characters of greedy text as Forja's |\n| --- | --- | --- |")
        stories(work)
    if options.out:
        Path(options.out).write_text("\n".join(work.lines) + "\n")
    shutil.rmtree(work.folder)


if __name__ == "__main__":
    main()
