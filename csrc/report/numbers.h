// SPDX-License-Identifier: Apache-2.0
// Axis ticks, and numbers as a reader wants them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace forja {

// The step 1, 2, 2.5 or 5 times a power of ten that cuts [low, high] into about `target` pieces.
double nice_step(double low, double high, int target);

// The multiples of nice_step that lie in [low, high].
std::vector<double> linear_ticks(double low, double high, int target);

// Round numbers in [low, high] (0 < low < high) for a logarithmic axis: powers of ten over many
// decades, more numbers between them over few, and linear_ticks within a fraction of one.
std::vector<double> log_ticks(double low, double high, int target);

// Labels with one scale ("k", "M", ...) and no more decimals than tell them apart; with `each`, for
// logarithmic axes, the shortest label of each number by itself.
std::vector<std::string> tick_labels(const std::vector<double>& ticks, bool each = false);

// Four significant digits: "3.214", "12,345", "1.234M", "3.000e-4"; "inf", and an en dash for NaN.
std::string format_value(double value);

// "1,234,567".
std::string format_integer(int64_t value);

}  // namespace forja
