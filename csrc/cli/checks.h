// SPDX-License-Identifier: Apache-2.0
// Checks of arguments, in the words of the configuration's checks.
#pragma once

#include <CLI/CLI.hpp>
#include <limits>
#include <string>

namespace forja {

// The number of an option, from `low` to `high`.
CLI::Validator number_from(double low, double high = std::numeric_limits<double>::infinity());

// Throws bad_input when `file` could not be written, before the work is done whose result it is to
// hold: its folder must be there.
void check_output_file(const std::string& file);

}  // namespace forja
