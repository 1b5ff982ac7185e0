// SPDX-License-Identifier: Apache-2.0
// Unicode normalisation form C (UAX #15), by utf8proc.
#pragma once

#include <string>
#include <string_view>

namespace forja {

// `text` (valid UTF-8) in NFC. Lines whose characters cannot change are only copied.
std::string to_nfc(std::string_view text);

// The size of the smallest beginning of `text`, which is not empty, that is normalised apart from
// the rest.
size_t nfc_cluster_size(std::string_view text);

}  // namespace forja
