// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parallel_config.h"

#include <fmt/core.h>

#include <algorithm>

#include "forja/base/text.h"
#include "forja/parallel/schedule.h"

namespace forja {
namespace {

const std::vector<std::string> kRecompute = {"none", "selective", "full"};

// A name, or a file, which is found from where the key is given.
void check_schedule(ConfigVisitor& v, std::string& schedule) {
  if (is_schedule_file(schedule)) return v.path("schedule", schedule, "");
  const std::vector<std::string>& names = schedule_names();
  if (std::find(names.begin(), names.end(), schedule) != names.end()) return;
  const std::string near = nearest_name(schedule, names);
  v.fault("schedule",
          fmt::format("expected one of {} or a .csv file, found {}{}", join(names, ", "), schedule,
                      near.empty() ? "" : fmt::format("; did you mean {}?", near)));
}

}  // namespace

void ParallelConfig::visit(ConfigVisitor& v) {
  const Check<int64_t> only_one = between(int64_t(1), int64_t(1));
  v.field("tp", tp,
          "Tensor-parallel ranks: each layer is split over them, and the sequence between layers.",
          positive<int64_t>());
  v.field("pp", pp, "Pipeline-parallel ranks: the layers are split over them.",
          positive<int64_t>());
  v.field("cp", cp, "Context-parallel ranks; only 1 for the present.", only_one);
  v.field("ep", ep, "Expert-parallel ranks; only 1 for the present.", only_one);
  v.field(
      "dp_shard", dp_shard,
      "Data-parallel ranks that share one sharded copy (zero >= 1); dp / dp_shard copies exist. "
      "0 means all of dp.",
      not_negative<int64_t>());
  v.field("zero", zero,
          "What data-parallel ranks divide: 0 nothing, 1 optimizer states, 2 gradients too, 3 "
          "weights too.",
          between(int64_t(0), int64_t(3)));
  v.field(
      "schedule", schedule,
      "Of the pipeline: gpipe, 1f1b, interleaved_1f1b, zb_h1, zb_v, dualpipe_v, or a CSV file.");
  v.field("virtual_stages", virtual_stages,
          "Stages of each pipeline rank (interleaved_1f1b; zb_v and dualpipe_v have 2).",
          positive<int64_t>());
  v.field("stage_layers", stage_layers,
          "Layers of each stage, first to last; empty: as even as possible.");
  v.field(
      "recompute", recompute,
      "Activations computed again in backward: none; selective: outputs of norms, attention and "
      "the activation function; full: all but each layer's input.",
      one_of(kRecompute));
  v.field("layer_recompute", layer_recompute,
          "The same for each layer, first to last; empty: `recompute` for all.");
  v.field("bucket_mb", bucket_mb,
          "Size in MiB of the gradient buckets that are reduced while backward runs.",
          positive<int64_t>());
  v.field(
      "communicator", communicator,
      "What carries data between ranks on GPUs: nccl; mpi, copied through host memory; auto: nccl "
      "where every rank has a GPU of its own. Ranks on the CPU use mpi.",
      one_of({"auto", "nccl", "mpi"}));
  if (!v.reading()) return;
  check_schedule(v, schedule);
  for (const std::string& name : layer_recompute) {
    if (std::find(kRecompute.begin(), kRecompute.end(), name) == kRecompute.end())
      v.fault("layer_recompute", "expected none, selective or full, found " + name);
  }
  if (zero == 0 && dp_shard > 1)
    v.fault("dp_shard", "nothing is divided under zero 0: expected zero 1, 2 or 3 beside it");
  for (int64_t n : stage_layers)
    if (n < 1) v.fault("stage_layers", "a stage needs at least one layer");
}

Recompute ParallelConfig::recompute_of_layer(int64_t layer) const {
  const std::string& name = layer_recompute.empty() ? recompute : layer_recompute[size_t(layer)];
  return name == "full"        ? Recompute::full
         : name == "selective" ? Recompute::selective
                               : Recompute::none;
}

}  // namespace forja
