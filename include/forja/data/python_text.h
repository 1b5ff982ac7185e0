// SPDX-License-Identifier: Apache-2.0
// Texts as Python's str sees them: published scores are counted in its characters and words.
#pragma once

#include <cstdint>
#include <string_view>

namespace forja {

// Of valid UTF-8.
int64_t num_characters(std::string_view text);
// Without the white space (str.isspace) at its end, or at both ends.
std::string_view rstrip(std::string_view text);
std::string_view strip(std::string_view text);
// The parts of re.split(r"\s+", text): runs of white space and one, empty parts at the ends
// included.
int64_t num_words(std::string_view text);

}  // namespace forja
