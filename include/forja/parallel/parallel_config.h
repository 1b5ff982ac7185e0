// SPDX-License-Identifier: Apache-2.0
// The `parallel` section of a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/base/config.h"

namespace forja {

// What of a layer's activations is not kept for backward but computed again.
enum class Recompute {
  none,
  selective,  // outputs of norms, of attention and of the activation function
  full,       // everything but the layer's input
};

struct ParallelConfig {
  int64_t tp = 1, pp = 1, cp = 1, ep = 1;
  int64_t dp_shard = 0;  // 0: all of dp
  int64_t zero = 0;
  std::string schedule = "1f1b";  // a name of schedule_names(), or a CSV file
  int64_t virtual_stages = 1;
  std::vector<int64_t> stage_layers;  // empty: as even as possible
  std::string recompute = "none";
  std::vector<std::string> layer_recompute;  // one for each layer, or empty
  int64_t bucket_mb = 25;
  std::string communicator = "auto";  // of GPU ranks: auto, nccl or mpi

  void visit(ConfigVisitor& v);
  Recompute recompute_of_layer(int64_t layer) const;
};

}  // namespace forja
