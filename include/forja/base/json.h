// SPDX-License-Identifier: Apache-2.0
// JSON of files that may be damaged, or made to do harm.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace forja {

// What an object with the same key twice is.
enum class JsonKeys {
  repeated,  // the last one counts, as for most programs
  once,      // a fault: of a format in which nothing may be ambiguous
};

// The value that `text` is. Throws bad_input, with the position, for what is no JSON, and for
// values nested so deeply that what walks through them might run out of stack.
nlohmann::json parse_json(std::string_view text, JsonKeys keys = JsonKeys::repeated);

// Throws bad_input for values nested so deeply, where `text` is JSON at all.
void check_json_depth(std::string_view text);

// For a message: the value, cut where it is long, or the name of its type.
std::string shown(const nlohmann::json& json);

// No size or position that a file states is larger, and no product of one of them with an element's
// bytes overflows.
inline constexpr int64_t kMostInFile = int64_t(1) << 48;

// A whole number in [least, most], which neither 1.5 nor true is. Throws bad_input otherwise;
// `what` it is begins the message.
int64_t json_integer(const nlohmann::json& json, std::string_view what, int64_t least = 0,
                     int64_t most = kMostInFile);

}  // namespace forja
