# SPDX-License-Identifier: Apache-2.0
"""older.py FOLDER: the models FOLDER/NAME in this interpreter's transformers, beside FOLDER/truth/NAME.safetensors.

Run by run.py --older PYTHON, which has put the true logits there.
"""

import logging
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

BOUND = 1e-5


def main():
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    folder, worst, count, unknown, yarn = Path(sys.argv[1]), 0.0, 0, set(), 0
    for file in sorted((folder / "truth").iterdir()):
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder / file.stem, torch_dtype=torch.float32, attn_implementation="eager").eval()
        except (KeyError, ValueError) as e:
            if "does not recognize this architecture" not in str(e):
                raise
            unknown.add(transformers.PretrainedConfig.get_config_dict(folder / file.stem)[0]["model_type"])
            continue
        reference = load_file(file)
        with torch.no_grad():
            found = model(input_ids=reference["input_ids"], use_cache=False).logits
        error = ((found.double() - reference["logits"]).norm() / reference["logits"].norm()).item()
        if error > BOUND:
            # 4.4x takes max_position_embeddings for YaRN's original length, which published files know as well.
            if "yarn" not in file.stem:
                raise AssertionError((file.stem, error))
            yarn += 1
            continue
        worst, count = max(worst, error), count + 1
    print(f"transformers {transformers.__version__} reads {count} of them, worst error {worst:.1e}" +
          (f"; it does not know {', '.join(sorted(unknown))}" if unknown else "") +
          (f"; it computes {yarn} with YaRN otherwise (it does not read their original length)" if yarn else ""))


if __name__ == "__main__":
    main()
