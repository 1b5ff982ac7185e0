// SPDX-License-Identifier: Apache-2.0
// How the ranks of a run are laid out: world = pp x dp x cp x tp, tp innermost, so that
// tensor-parallel neighbours are neighbours in the node. An *axis* is one of these factors.
// dp = replicate x shard, the shards inside: the ranks that divide one copy (ZeRO) are close.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "forja/comm/communicator.h"
#include "forja/parallel/parallel_config.h"

namespace forja {

struct ParallelDims {
  int pp = 1, dp = 1, cp = 1, tp = 1;
  int dp_shard = 1;  // divides dp

  // The layout of `num_ranks` ranks: dp follows. Throws bad_input, with every factor, when they do
  // not multiply, or dp_shard does not divide dp.
  static ParallelDims from(const ParallelConfig& config, int num_ranks);

  int world_size() const { return pp * dp * cp * tp; }
  int dp_replicate() const { return dp / dp_shard; }
  // "8 ranks = pp 2 x dp 2 x cp 1 x tp 2", and how dp divides where it does.
  std::string to_string() const;

  struct Coordinates {
    int pp = 0, dp = 0, cp = 0, tp = 0;
  };
  Coordinates coordinates(int rank) const;
  int rank(const Coordinates& c) const;

  // Throws bad_input when the tp ranks of one group are not all on one host. hosts[rank].
  void check_hosts(const std::vector<std::string>& hosts) const;
};

// The communicators of this rank, and where it stands.
struct Mesh {
  ParallelDims dims;
  ParallelDims::Coordinates coordinates;
  std::unique_ptr<Communicator> pp, dp, cp, tp;
  // dp = replicate x shard: the ranks that divide one copy, and those with the same part of
  // different copies.
  std::unique_ptr<Communicator> dp_shard, dp_replicate;
  // pp x dp_shard x tp: together they hold every gradient of one copy once.
  std::unique_ptr<Communicator> copy;
  // The ranks of one pp group with the first and the last stage, where a tied embedding is on two
  // ranks; of one rank elsewhere.
  std::unique_ptr<Communicator> embedding;
  // The tp ranks with the same key-value heads, where these are fewer than tp.
  std::unique_ptr<Communicator> key_value;
  Communicator* world = nullptr;  // not owned

  int shard_rank() const { return coordinates.dp % dims.dp_shard; }
  struct Group {
    const char* name;
    Communicator* communicator;
  };
  // Every group of this rank, the world among them.
  std::vector<Group> groups() const;
};

// What of a model decides over groups.
struct MeshOptions {
  int num_key_value_heads = 1 << 30;
  // Ranks of the pp axis that hold the embedding and the head.
  int embedding_pp = 0, head_pp = 0;
};

// Collective over `world`.
Mesh make_mesh(Communicator& world, const ParallelDims& dims, const MeshOptions& options = {});
// The mesh of rank `rank` for planning: its communicators do nothing.
Mesh make_planning_mesh(const ParallelDims& dims, int rank, const MeshOptions& options = {});

}  // namespace forja
