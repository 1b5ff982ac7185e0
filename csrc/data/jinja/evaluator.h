// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "csrc/data/jinja/syntax.h"

namespace forja::jinja {

struct Rendered {
  std::string text;
  // Bytes [begin, end) of it that stand in generation blocks.
  std::vector<std::pair<size_t, size_t>> generated;
};

// Throws bad_input with the line.
Rendered render(const std::vector<Node>& nodes, const Dict& variables);

}  // namespace forja::jinja
