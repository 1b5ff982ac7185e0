// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "forja/checkpoint/gguf.h"

namespace forja {

// The keys "tokenizer.*" of a GGUF file for a model of `vocab_size` ids: ids that the tokenizer
// lacks become unused tokens. `path`: a file or directory; "": none, the file then says so. Throws
// bad_input for a tokenizer that llama.cpp would not follow, and for one of more ids.
GgufMetadata gguf_tokenizer(const std::string& path, int64_t vocab_size);

}  // namespace forja
