#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Forja is built from, on Debian 12 or Ubuntu 24.04. Needs root or sudo. Further arguments are packages.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache git
  libopenmpi-dev openmpi-bin libdnnl-dev libhwy-dev libhwloc-dev
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libasio-dev libfmt-dev libxxhash-dev
  libpcre2-dev libsentencepiece-dev libutf8proc-dev zlib1g-dev libzstd-dev
  libgtest-dev "$@"
)

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

sudo=""
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "error: install these packages first: ${missing[*]}" >&2; exit 1; }
  sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
