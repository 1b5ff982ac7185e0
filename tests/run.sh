#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test: format, sanitizers, and the release build, on Debian 12 or Ubuntu 24.04. Installs the packages that
# it needs; downloads nothing else.
#   tests/run.sh [release|asan|tsan ...]     default: asan tsan release
set -euo pipefail
cd "$(dirname "$0")/.."

presets=("$@")
((${#presets[@]})) || presets=(asan tsan release)
step() { printf '\n== %s\n' "$*"; }

step "packages"
packages=(clang-format libbenchmark-dev libboost-context-dev python3)
# Two hosts and a Slurm, all in one machine, need root, so nobody else gets them. Where systemd runs, these packages would
# start their daemons, an SSH server among them: there the tests are skipped unless the packages have been installed.
if [[ " ${presets[*]} " == *" release "* ]] && ((EUID == 0)) && [[ ! -d /run/systemd/system ]]; then
  packages+=(iproute2 openssh-client openssh-server munge slurm-wlm)
fi
examples/packages.sh "${packages[@]}"

step "format"
git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs -P 2 -n 20 clang-format --dry-run --Werror

# Several runs share the machine's cores in tests: OpenMP must not spin, MPI must not refuse.
export OMP_WAIT_POLICY=passive OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

for preset in "${presets[@]}"; do
  step "$preset"
  # Sanitizers bring warnings of their own; other compilers than CI's may have new ones.
  werror=OFF
  [[ "$preset" == release && -n "${CI:-}" ]] && werror=ON
  cmake --preset "$preset" -DFORJA_WERROR=$werror >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset" -j 2
done
