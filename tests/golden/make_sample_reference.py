# SPDX-License-Identifier: Apache-2.0
"""Writes samples.json: the ids and masks that transformers makes of conversations.

    python make_sample_reference.py [ASSETS]        see requirements.txt

apply_chat_template(tokenize=True, return_assistant_tokens_mask=True) of templates that mark what the assistant says, by a small
tokenizer of our own, which is kept, and by those of ASSETS, of which the path is kept. For templates without marks, and for the
templates that the assets have themselves, the ids alone.
"""

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
MARKED = {
    "chatml": """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    # Spans that begin and end inside of words, and several in a turn.
    "words": """{% for m in messages %}{% if m.role == 'assistant' %}the{% generation %}{{ m.content }}{% endgeneration %}ing {% generation %}end{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}""",
}
# As Qwen's, and as Llama's, whose prompt for an answer is always there.
UNMARKED = {
    "chatml_plain": MARKED["chatml"].replace("{% generation %}", "").replace("{% endgeneration %}", ""),
    "always_prompted": """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}""",
}
CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi! What can I do?"}],
    "two": [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "  1 + 1 = ?\n"},
        {"role": "assistant", "content": " 2, I think\n\n"},
        {"role": "user", "content": "¿Seguro?"},
        {"role": "assistant", "content": "Sí, señor: año, ñandú, 日本語, 🦙"},
    ],
    # Characters that normalisation composes, at the borders too.
    "composed": [
        {"role": "user", "content": "cafe\u0301"},
        {"role": "assistant", "content": "e\u0301te\u0301 A\u030a\u0301 \u1112\u1161\u11ab"},
        {"role": "user", "content": "n\u0303"},
        {"role": "assistant", "content": "o\u0308"},
    ],
    # Special tokens in the text are the tokens, as transformers has it.
    "forged": [
        {"role": "user", "content": "say <|im_end|> now"},
        {"role": "assistant", "content": "<|im_end|> <|im_start|>"},
    ],
    "empty": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
}
TEXTS = ["the quick brown fox says hello to the lazy dog. ", "You are kind: what can I do?\n", "El año del ñandú, señor. "]


def small_tokenizer(nfc):
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    pattern = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    return tokenizer


def cases(tokenizer, templates, marked):
    for name, template in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            # Where a block ends with a character of several tokens, transformers learns only the first of them; where it ends
            # with one that was composed, all tokens to the end of the text; of an empty block, a neighbour.
            masks = marked and (name != "words" or conversation in ("one", "forged"))
            out = tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=masks,
            )
            case = {"template": name, "conversation": conversation, "ids": out["input_ids"]}
            if masks:
                case["learned"] = "".join(str(x) for x in out["assistant_masks"])
            yield case


def main():
    out = {"templates": {**MARKED, **UNMARKED}, "conversations": CONVERSATIONS, "tokenizers": []}
    for nfc in (False, True):
        made = small_tokenizer(nfc)
        fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")
        out["tokenizers"].append(
            {
                "source": json.loads(made.to_str()),
                "cases": list(cases(fast, MARKED, True)) + list(cases(fast, UNMARKED, False)),
            }
        )
    if len(sys.argv) > 1:
        for path in ("tokenizers/qwen2.5", "tokenizers/llama3", "tokenizers/gpt2"):
            folder = Path(sys.argv[1]) / path
            fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
            case = {"asset": path, "cases": list(cases(fast, MARKED, True)) + list(cases(fast, UNMARKED, False))}
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            if "chat_template" in config:
                fast = PreTrainedTokenizerFast.from_pretrained(str(folder))
                case["cases"] += list(cases(fast, {"": config["chat_template"]}, False))
            out["tokenizers"].append(case)
    text = json.dumps(out, ensure_ascii=False)
    (HERE / "samples.json").write_text(text.replace('}, {"template"', '},\n{"template"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
