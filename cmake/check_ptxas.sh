#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_ptxas.sh COMMAND...   runs a compilation; fails it where ptxas notes (C75xx) that it has serialised wgmma or ignored
# setmaxnreg, which no warning flag covers.
notes=$("$@" 2>&1)
status=$?
[ -z "$notes" ] || printf '%s\n' "$notes" >&2
[ $status -eq 0 ] || exit $status
case $notes in
  *"(C75"*) echo "error: ptxas made the kernel slow: see its notes" >&2; exit 1 ;;
esac
