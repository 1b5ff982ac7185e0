#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh Debian 12 or Ubuntu 24.04 to a trained model: installs packages, builds, trains a tokenizer and a small
# language model with two ranks, prints a sample, writes a report. Downloads nothing but packages.
#   examples/quickstart.sh [--text FILE] [key=value ...]     e.g. train.steps=1000
set -euo pipefail
cd "$(dirname "$0")/.."

text=""
overrides=()
while (($#)); do
  case "$1" in
    --text) text="${2:?--text needs a file}"; shift 2 ;;
    --text=*) text="${1#--text=}"; shift ;;
    -h | --help) sed -n '3,5p' "$0" | cut -c3-; exit 0 ;;
    *=*) overrides+=("$1"); shift ;;
    *) echo "error: unknown argument: $1 (see --help)" >&2; exit 2 ;;
  esac
done
if [[ -n "$text" && ! -r "$text" ]]; then echo "error: cannot read $text" >&2; exit 2; fi

step() { printf '\n== %s\n' "$*"; }

step "packages"
if [[ -n "$text" ]]; then examples/packages.sh; else examples/packages.sh fortunes fortunes-es; fi

step "build"
cmake --preset release >/dev/null
cmake --build --preset release --target forja
forja=build/release/forja

step "text"
data=data/quickstart
rm -rf "$data"
mkdir -p "$data"
separator=()
if [[ -n "$text" ]]; then
  # The last fiftieth of the lines is for validation.
  lines=$(wc -l <"$text")
  head -n "$((lines - lines / 50))" "$text" >"$data/train.txt"
  tail -n "$((lines / 50 + 1))" "$text" >"$data/valid.txt"
else
  # Every fiftieth fortune is for validation; fortunes are separated by lines of a single %.
  find /usr/share/games/fortunes -type f ! -name '*.dat' -print0 | sort -z |
    xargs -0 -I{} sh -c 'iconv -f utf-8 -t utf-8 "{}" 2>/dev/null || iconv -f latin1 -t utf-8 "{}"; echo %' |
    awk -v train="$data/train.txt" -v valid="$data/valid.txt" \
      'BEGIN { RS = "\n%\n" } NF { print $0 "\n%" > (NR % 50 ? train : valid) }'
  separator=(--document-separator %)
fi

step "tokenizer and dataset"
"$forja" tokenizer train "$data/train.txt" --vocab-size 4096 --out "$data/tokenizer.json" "${separator[@]}"
for part in train valid; do
  "$forja" tokenize "$data/$part.txt" --tokenizer "$data/tokenizer.json" --out "$data/$part" "${separator[@]}"
done

step "training"
rm -rf runs/quickstart
mpi=(mpirun -n 2 --oversubscribe)
if ((EUID == 0)); then mpi+=(--allow-run-as-root); fi
"${mpi[@]}" "$forja" train configs/runs/quickstart.yaml "${overrides[@]}"

step "a sample from the trained model"
if [[ -n "$text" ]]; then
  "$forja" generate runs/quickstart --prompt "$(head -c 40 "$data/valid.txt" | head -n 1)" --max-new-tokens 120 --temperature 0.7 --top-p 0.95
else
  for prompt in "The best way to" "La vida es"; do
    "$forja" generate runs/quickstart --prompt "$prompt" --max-new-tokens 60 --temperature 0.7 --top-p 0.95
  done
fi

step "report"
"$forja" report runs/quickstart
