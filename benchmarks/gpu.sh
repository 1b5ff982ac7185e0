#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything there is to know of a GPU, in one command: tests, kernels beside PyTorch, training beside the CPU's.
# Runs in the source tree after a build with CUDA, or in the folder of cmake --install on a machine with only a driver and
# Python with PyTorch. Each part runs, also when one before it failed; the summary at the end says how each went.
#   benchmarks/gpu.sh [--out DIR] [--text FILE] [part ...]     parts: tests train kernels steps; default: all
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=gpu-results
text=$root/README.md
parts=()
while (($#)); do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    --text) text="${2:?--text needs a file}"; shift 2 ;;
    -h | --help) sed -n '3,7p' "$0" | cut -c3-; exit 0 ;;
    tests | train | kernels | steps) parts+=("$1"); shift ;;
    *) echo "error: unknown argument: $1 (see --help)" >&2; exit 2 ;;
  esac
done
((${#parts[@]})) || parts=(tests train kernels steps)
bin=$root/bin
[[ -x "$bin/forja" ]] || bin=$root/build/release
[[ -x "$bin/forja" ]] || { echo "error: neither $root/bin nor $root/build/release has a forja" >&2; exit 2; }
nvidia-smi -L 2>/dev/null | grep -q GPU || { echo "error: no GPU here (nvidia-smi -L names none)" >&2; exit 2; }
[[ -r "$text" ]] || { echo "error: cannot read $text" >&2; exit 2; }
export LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
mkdir -p "$out"
out=$(cd "$out" && pwd)

failed=0
summary=()
# part NAME LOG COMMAND...
part() {
  local name=$1 log=$out/$2 begin=$SECONDS
  shift 2
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log" | tail -n 40
  local status=${PIPESTATUS[0]}
  ((status == 0)) || failed=1
  summary+=("$(printf '%-24s %-10s %4d s' "$name" "$( ((status == 0)) && echo ok || echo "failed ($status)")" $((SECONDS - begin)))")
}

# The same run on the CPU and on the GPU; the losses side by side.
follow() {
  local precision=$1 folder=$out/follow-$1
  rm -rf "$folder" && mkdir -p "$folder" && cd "$folder" || return 1
  "$bin/forja" tokenizer train "$text" --vocab-size 1024 --out tokenizer.json || return 1
  "$bin/forja" tokenize "$text" --tokenizer tokenizer.json --out data || return 1
  cat >run.yaml <<YAML
model: {model_type: llama, vocab_size: 1024, hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2,
        intermediate_size: 704, max_position_embeddings: 256, tie_word_embeddings: true}
data: {tokenizer: tokenizer.json, train: [{path: data}], sequence_length: 128}
train: {steps: 100, global_batch_size: 4, precision: $precision, seed: 1, log_every: 25}
optimizer: {lr: 1.0e-3, schedule: {name: constant, warmup_steps: 20}}
YAML
  local device
  for device in cpu cuda; do
    "$bin/forja" train run.yaml "name=$device" "train.device=$device" || return 1
  done
  python3 - "$precision" <<'PYTHON'
import json, sys
bound = {"fp32": 2e-3, "bf16": 2e-2}[sys.argv[1]]  # of the loss, over 100 steps of diverging roundings
losses = [[json.loads(l)["loss"] for l in open(f"runs/{d}/metrics.jsonl") if '"loss"' in l and '"eval"' not in l]
          for d in ("cpu", "cuda")]
worst = max(abs(a - b) / a for a, b in zip(*losses))
print(f"{sys.argv[1]}: losses over {len(losses[0])} steps differ by {worst:.1e} at most (bound {bound:.0e}); "
      f"last {losses[0][-1]:.4f} on the CPU, {losses[1][-1]:.4f} on the GPU")
sys.exit(len(losses[0]) != len(losses[1]) or worst > bound)
PYTHON
}

kernels() {
  "$bin/gpu_benchmark" >"$out/forja.json" &&
    python3 "$root/benchmarks/gpu/compare.py" --forja "$out/forja.json" --json "$out/kernels.json" --markdown "$out/kernels.md"
}

peer=$root/benchmarks/gpu/pytorch_train.py
[[ -r "$peer" ]] || peer=$root/benchmarks/cpu_train/pytorch_train.py
steps() {
  python3 "$root/benchmarks/gpu/train_steps.py" --forja "$bin/forja" --peer "$peer" --text "$text" --out "$out/steps"
}

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,power.limit --format=csv,noheader
"$bin/forja" doctor
for p in "${parts[@]}"; do
  case "$p" in
    tests)
      part "kernel tests" gpu_test.log "$bin/gpu_test" --gtest_brief=1 "--gtest_output=json:$out/gpu_test.json"
      part "training tests" gpu_train_test.log "$bin/gpu_train_test" --gtest_brief=1 "--gtest_output=json:$out/gpu_train_test.json"
      ;;
    train)
      part "fp32 follows the CPU" follow-fp32.log follow fp32
      part "bf16 follows the CPU" follow-bf16.log follow bf16
      ;;
    kernels) part "kernels beside PyTorch" kernels.log kernels ;;
    steps) part "steps beside PyTorch" steps.log steps ;;
  esac
done
printf '\n== summary\n'
printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
exit $failed
