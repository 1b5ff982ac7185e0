// SPDX-License-Identifier: Apache-2.0
// Shared by tests of whole models.
#pragma once

#include <vector>

#include "forja/data/loader.h"
#include "forja/parallel/parameter_store.h"

namespace forja::testing {

// || found - expected || / || expected ||.
double relative_norm(const std::vector<double>& found, const std::vector<double>& expected);

// Fills a micro-batch of B rows of T tokens [B, T] (int32 or int64); returns its sequences.
Tensor fill_batch(const MicroBatch& batch, const Tensor& tokens, const Tensor& targets);

// A flat state of a whole parameter in the parameter's shape.
Tensor shaped(const Parameter& p, const Tensor& flat);

}  // namespace forja::testing
