// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parallel_dims.h"

#include "forja/base/error.h"

namespace forja {

std::string ParallelDims::to_string() const {
  return fmt::format("{} ranks = pp {} x dp {} x cp {} x tp {}", world_size(), pp, dp, cp, tp);
}

void ParallelDims::check(int num_ranks) const {
  if (world_size() != num_ranks)
    fail_input("the layout does not fit the launch: {}, started with {}", to_string(), num_ranks);
}

ParallelDims::Coordinates ParallelDims::coordinates(int rank) const {
  return {rank / (dp * cp * tp), rank / (cp * tp) % dp, rank / tp % cp, rank % tp};
}

int ParallelDims::rank(const Coordinates& c) const {
  return ((c.pp * dp + c.dp) * cp + c.cp) * tp + c.tp;
}

Mesh make_mesh(Communicator& world, const ParallelDims& dims) {
  dims.check(world.size());
  Mesh mesh;
  mesh.dims = dims;
  mesh.world = &world;
  const auto c = mesh.coordinates = dims.coordinates(world.rank());
  // The color of an axis is the rank with that coordinate set to zero.
  mesh.pp = world.split(dims.rank({0, c.dp, c.cp, c.tp}), c.pp);
  mesh.dp = world.split(dims.rank({c.pp, 0, c.cp, c.tp}), c.dp);
  mesh.cp = world.split(dims.rank({c.pp, c.dp, 0, c.tp}), c.cp);
  mesh.tp = world.split(dims.rank({c.pp, c.dp, c.cp, 0}), c.tp);
  mesh.gradient = world.split(dims.rank({c.pp, 0, 0, c.tp}), c.dp * dims.cp + c.cp);
  return mesh;
}

}  // namespace forja
