// SPDX-License-Identifier: Apache-2.0
// 64-bit content hashes (xxHash XXH3) for manifests and agreement checks; not cryptographic.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace forja {

uint64_t hash_bytes(const void* data, int64_t bytes);
inline uint64_t hash_text(std::string_view text) {
  return hash_bytes(text.data(), int64_t(text.size()));
}

// 16 lower-case hexadecimal digits.
std::string hash_hex(uint64_t hash);

}  // namespace forja
