// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace forja {

// Copies the file (and the tokenizer_config.json) of a tokenizer that load_tokenizer(path) reads
// into `directory`, under the names under which load_tokenizer(directory) finds them.
void copy_tokenizer(const std::string& path, const std::string& directory);

}  // namespace forja
