// SPDX-License-Identifier: Apache-2.0
#include "forja/base/hash.h"

#include <fmt/core.h>
#include <xxhash.h>

namespace forja {

uint64_t hash_bytes(const void* data, int64_t bytes) { return XXH3_64bits(data, size_t(bytes)); }

std::string hash_hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace forja
