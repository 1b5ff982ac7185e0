// SPDX-License-Identifier: Apache-2.0
// A run's data, beside its configuration.
#pragma once

#include <cstdint>

#include "forja/data/loader.h"
#include "forja/train/run_config.h"

namespace forja {

// Of every token of the stream's datasets, and of what is learned, as their manifests say.
uint64_t content_hash(const SampleStream& stream);
// Throws bad_input for preference pairs without a loss of them, and the other way round.
void check_kind(const SampleStream& stream, const RunConfig& config);
// Says how datasets of samples are packed.
void tell_samples(const SampleStream& stream, const RunConfig& config);

}  // namespace forja
