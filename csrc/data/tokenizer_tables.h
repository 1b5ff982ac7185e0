// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "csrc/data/bpe_tokenizer.h"
#include "forja/data/tokenizer_tables.h"

namespace forja {

TokenizerTables bpe_tables(const BpeSpec& spec);
// `model`: a serialised ModelProto that load_tokenizer has read.
TokenizerTables sentencepiece_tables(std::string_view model);

}  // namespace forja
