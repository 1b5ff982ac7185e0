// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace forja::jinja {

struct Token {
  enum class Kind {
    text,
    print_begin,
    print_end,
    block_begin,
    block_end,
    name,
    number,
    string,
    sign,
    end
  };
  Kind kind;
  std::string text;
  int line;
};

// The text between tags, with white space removed as the tags ask, and what stands in the tags.
std::vector<Token> tokens_of(const std::string& source);

}  // namespace forja::jinja
