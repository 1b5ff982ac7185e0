// SPDX-License-Identifier: Apache-2.0
// How the ranks of a run stand beside each other, from its ranks.jsonl.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace forja {

// A card: a strip of ranks over steps, darker where a rank needs more time of its own than the
// median of its stage, and the slowest ranks by name. "" where there is no such file, or nothing in
// it. After a change of their number only the ranks of the last part are shown. `info` is run.json.
std::string ranks_section(const std::string& run_dir, const nlohmann::json& info);

}  // namespace forja
