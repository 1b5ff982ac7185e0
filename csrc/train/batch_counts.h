// SPDX-License-Identifier: Apache-2.0
// What is in a micro-batch, in host memory.
#pragma once

#include <cstdint>

#include "forja/data/loader.h"

namespace forja {

int64_t num_targets_of(const MicroBatch& batch);
// Padding is none.
int64_t num_tokens_of(const MicroBatch& batch);
// `sequences` of the batch but those of padding, which are the last ones.
Tensor without_padding(const MicroBatch& batch, const Tensor& sequences);

}  // namespace forja
