#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzzers (preset fuzz: Clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each from its
# corpus, two at a time. Prints a table; fails where a fuzzer found something, which is then in build/fuzz/findings.
#   tests/fuzz/run.sh [--runs N] [--keep] [reader ...]     default: 20000 executions of each reader
# --keep adds to tests/fuzz/corpus, of inputs of 1 KiB at most, those that reach code that nothing there reaches.
set -euo pipefail
cd "$(dirname "$0")/../.."

runs=20000 keep=false readers=()
while (($#)); do
  case "$1" in
    --runs) runs=$2; shift ;;
    --keep) keep=true ;;
    *) readers+=("$1") ;;
  esac
  shift
done
if ((${#readers[@]} == 0)); then
  for target in tests/fuzz/*_fuzz.cc; do readers+=("$(basename "$target" _fuzz.cc)"); done
fi

examples/packages.sh clang libclang-rt-dev libomp-dev
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --parallel 2

export TMPDIR=$(mktemp -d /dev/shm/forja-fuzz.XXXXXX)  # of the files that readers are given
trap 'rm -rf "$TMPDIR"' EXIT
export OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0
findings=build/fuzz/findings
mkdir -p "$findings"

# One reader: what it finds on the way stays in build/fuzz/corpus, so that the next run goes on from there.
fuzz() {
  local reader=$1 corpus=tests/fuzz/corpus/$1 grown=build/fuzz/corpus/$1
  mkdir -p "$grown"
  # An input has 8 KiB at most; 128 MiB for it at once, or 1 GiB in all, or 10 s are out of proportion.
  "build/fuzz/${reader}_fuzz" -runs="$runs" -max_len=8192 -timeout=10 -malloc_limit_mb=128 -rss_limit_mb=1024 \
    -print_final_stats=1 -close_fd_mask=3 -artifact_prefix="$findings/$reader-" \
    "$grown" "$corpus" >"build/fuzz/$reader.log" 2>&1
}
export -f fuzz
export runs findings
status=0
printf '%s\n' "${readers[@]}" | xargs -P 2 -I{} bash -c 'fuzz {}' || status=1

printf '%-18s %10s %8s %7s %7s %9s  %s\n' reader executions per_s edges inputs peak_MiB result
for reader in "${readers[@]}"; do
  log=build/fuzz/$reader.log
  stat() { awk -v key="stat::$1:" '$1 == key { print $2 }' "$log"; }
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2 || true)
  result=$(grep -m1 -oE '(ERROR|SUMMARY): .*|does not hold: .*|runtime error: .*' "$log" || echo "nothing found")
  printf '%-18s %10s %8s %7s %7s %9s  %s\n' "$reader" "$(stat number_of_executed_units)" \
    "$(stat average_exec_per_sec)" "${edges:--}" "$(find "build/fuzz/corpus/$reader" -type f | wc -l)" \
    "$(stat peak_rss_mb)" "$result"
done

if $keep; then
  for reader in "${readers[@]}"; do
    small=$(mktemp -d)
    find "build/fuzz/corpus/$reader" -type f -size -1025c -exec cp -t "$small" {} +
    "build/fuzz/${reader}_fuzz" -merge=1 -set_cover_merge=1 -close_fd_mask=3 "tests/fuzz/corpus/$reader" "$small" \
      >"build/fuzz/$reader.merge.log" 2>&1
  done
fi
exit "$status"
