// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parallel_dims.h"

#include <algorithm>
#include <functional>

#include "forja/base/error.h"

namespace forja {

ParallelDims ParallelDims::from(const ParallelConfig& config, int num_ranks) {
  ParallelDims dims;
  dims.pp = int(config.pp);
  dims.cp = int(config.cp);
  dims.tp = int(config.tp);
  const int64_t others = config.pp * config.cp * config.tp;
  if (num_ranks % others != 0) {
    fail_input(
        "the layout does not fit the launch: parallel.pp {} x cp {} x tp {} = {} does not divide "
        "{} ranks (dp is what remains)",
        config.pp, config.cp, config.tp, others, num_ranks);
  }
  dims.dp = int(num_ranks / others);
  const int64_t shard = config.zero == 0 ? 1 : config.dp_shard ? config.dp_shard : dims.dp;
  if (dims.dp % shard != 0) {
    fail_input("parallel.dp_shard {} does not divide dp {}: {}", shard, dims.dp, dims.to_string());
  }
  dims.dp_shard = int(shard);
  return dims;
}

std::string ParallelDims::to_string() const {
  std::string out =
      fmt::format("{} ranks = pp {} x dp {} x cp {} x tp {}", world_size(), pp, dp, cp, tp);
  if (dp_shard > 1 && dp_shard < dp)
    out += fmt::format(" (dp = {} copies x {} shards)", dp_replicate(), dp_shard);
  return out;
}

ParallelDims::Coordinates ParallelDims::coordinates(int rank) const {
  return {rank / (dp * cp * tp), rank / (cp * tp) % dp, rank / tp % cp, rank % tp};
}

int ParallelDims::rank(const Coordinates& c) const {
  return ((c.pp * dp + c.dp) * cp + c.cp) * tp + c.tp;
}

void ParallelDims::check_hosts(const std::vector<std::string>& hosts) const {
  for (int r = 0; r < world_size(); ++r) {
    const int first = r - coordinates(r).tp;
    if (hosts[size_t(r)] == hosts[size_t(first)]) continue;
    fail_input(
        "tensor-parallel ranks must share a host: ranks {} and {} of a group of tp {} are on {} "
        "and {}; launch a multiple of {} ranks on each host",
        first, r, tp, hosts[size_t(first)], hosts[size_t(r)], tp);
  }
}

namespace {

// Makes the group of an axis: its color (the rank with the coordinate of the axis at its least),
// this rank's place in it, and its size.
using MakeGroup = std::function<std::unique_ptr<Communicator>(int color, int place, int size)>;

Mesh make_groups(const ParallelDims& dims, int rank, const MeshOptions& options,
                 const MakeGroup& make) {
  Mesh mesh;
  mesh.dims = dims;
  const auto c = mesh.coordinates = dims.coordinates(rank);
  const int shards = dims.dp_shard, shard = c.dp % shards, copy = c.dp / shards;
  mesh.pp = make(dims.rank({0, c.dp, c.cp, c.tp}), c.pp, dims.pp);
  mesh.dp = make(dims.rank({c.pp, 0, c.cp, c.tp}), c.dp, dims.dp);
  mesh.cp = make(dims.rank({c.pp, c.dp, 0, c.tp}), c.cp, dims.cp);
  mesh.tp = make(dims.rank({c.pp, c.dp, c.cp, 0}), c.tp, dims.tp);
  mesh.dp_shard = make(dims.rank({c.pp, copy * shards, c.cp, c.tp}), shard, shards);
  mesh.dp_replicate = make(dims.rank({c.pp, shard, c.cp, c.tp}), copy, dims.dp_replicate());
  mesh.copy = make(copy, (c.pp * shards + shard) * dims.tp + c.tp, dims.pp * shards * dims.tp);
  const int first = std::min(options.embedding_pp, options.head_pp),
            last = std::max(options.embedding_pp, options.head_pp);
  const bool end = c.pp == first || c.pp == last;
  mesh.embedding = make(dims.rank({end ? first : c.pp, c.dp, c.cp, c.tp}),
                        end && c.pp == last && last > first ? 1 : 0, end && last > first ? 2 : 1);
  const int copies = std::max(1, dims.tp / options.num_key_value_heads);
  mesh.key_value =
      make(dims.rank({c.pp, c.dp, c.cp, c.tp / copies * copies}), c.tp % copies, copies);
  return mesh;
}

}  // namespace

std::vector<Mesh::Group> Mesh::groups() const {
  std::vector<Group> out;
  for (const Group& group : {Group{"tp", tp.get()},
                             {"pp", pp.get()},
                             {"dp", dp.get()},
                             {"cp", cp.get()},
                             {"dp_shard", dp_shard.get()},
                             {"dp_replicate", dp_replicate.get()},
                             {"copy", copy.get()},
                             {"embedding", embedding.get()},
                             {"key_value", key_value.get()},
                             {"world", world}})
    if (group.communicator) out.push_back(group);
  return out;
}

Mesh make_mesh(Communicator& world, const ParallelDims& dims, const MeshOptions& options) {
  FORJA_CHECK(dims.world_size() == world.size(), "{} in a world of {}", dims.to_string(),
              world.size());
  Mesh mesh = make_groups(dims, world.rank(), options, [&](int color, int place, int size) {
    auto group = world.split(color, place);
    FORJA_CHECK(group->size() == size && group->rank() == place, "group {}: rank {} of {}", color,
                group->rank(), group->size());
    return group;
  });
  mesh.world = &world;
  return mesh;
}

Mesh make_planning_mesh(const ParallelDims& dims, int rank, const MeshOptions& options) {
  return make_groups(dims, rank, options, [](int, int place, int size) {
    return make_planning_communicator(place, size);
  });
}

}  // namespace forja
