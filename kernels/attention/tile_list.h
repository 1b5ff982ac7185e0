// SPDX-License-Identifier: Apache-2.0
// The tiles of all sequences, listed on the device.
#pragma once

#include "kernels/attention/attention.h"

namespace forja::kernels {

enum class TileSide { queries, keys };

// Cuts the queries or the keys of every sequence into tiles of `tile_rows`. `counts` and `tiles` as
// in AttentionForward; entries without a tile get first = -1. Query tiles of causal attention come
// last first within a sequence, and key tiles first first: those that meet the most of the other
// side. A sequence out of range is a kernel_fault. counts[0] is 0 in the end, for kernels that
// count on from there.
void list_tiles(const AttentionProblem& problem, TileSide side, int tile_rows, int32_t* counts,
                AttentionTile* tiles, KernelStream stream);

}  // namespace forja::kernels
