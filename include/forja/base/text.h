// SPDX-License-Identifier: Apache-2.0
// Small text helpers: nearest names, human-readable quantities, times.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace forja {

// The candidate with the smallest edit distance to `word` (insertions, deletions, substitutions and
// swaps of neighbours cost 1), or "" when none is near (distance above a third of the longer of the
// two).
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string_view trim(std::string_view text);

std::string format_bytes(double bytes);       // "1.5 GiB"
std::string format_count(double count);       // "1.24 B", "338 k"
std::string format_duration(double seconds);  // "1h 02m", "3m 05s", "4.2 s"

// True when every byte sequence of `text` is well-formed UTF-8; otherwise false and *bad_offset
// (may be null) is the offset of the first wrong byte. Overlong forms and surrogates are wrong.
bool is_valid_utf8(std::string_view text, int64_t* bad_offset);

}  // namespace forja
