// SPDX-License-Identifier: Apache-2.0
// How the ranks of a run are laid out: world = pp x dp x cp x tp, tp innermost, so that
// tensor-parallel neighbours are neighbours in the node. An *axis* is one of these factors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "forja/comm/communicator.h"

namespace forja {

struct ParallelDims {
  int pp = 1, dp = 1, cp = 1, tp = 1;

  int world_size() const { return pp * dp * cp * tp; }
  // Throws bad_input, with every factor, when the product is not the number of ranks.
  void check(int num_ranks) const;
  std::string to_string() const;  // "8 ranks = pp 2 x dp 2 x cp 1 x tp 2"

  struct Coordinates {
    int pp, dp, cp, tp;
  };
  Coordinates coordinates(int rank) const;
  int rank(const Coordinates& c) const;
};

// The communicators of this rank, one for each axis, and the one over which gradients reduce (dp x
// cp).
struct Mesh {
  ParallelDims dims;
  ParallelDims::Coordinates coordinates;
  std::unique_ptr<Communicator> pp, dp, cp, tp, gradient;
  Communicator* world = nullptr;  // not owned
};

// Collective over `world`.
Mesh make_mesh(Communicator& world, const ParallelDims& dims);

}  // namespace forja
