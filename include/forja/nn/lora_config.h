// SPDX-License-Identifier: Apache-2.0
// Which linear layers get low-rank adapters (lora.h), and of what kind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/base/config.h"

namespace forja {

struct LoraConfig {
  int64_t rank = 0;  // 0: no adapters
  double alpha = 16.0;
  double dropout = 0.0;
  std::vector<std::string> targets = {"all-linear"};
  bool rslora = false;

  void visit(ConfigVisitor& v);

  bool is_on() const { return rank > 0; }
  double scale() const;
  // Of a linear layer by its Hugging Face name ("model.layers.0.self_attn.q_proj"): a target is the
  // end of one ("q_proj", "self_attn.q_proj"), or all-linear for every one but the head.
  bool wants(const std::string& hf_name) const;
};

}  // namespace forja
