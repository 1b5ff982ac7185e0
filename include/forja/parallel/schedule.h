// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules are data: a pure function gives each rank its list of actions; the simulator
// proves things about it, the executor (train/engine.h) runs it, the report draws it.
//
// Legend: P pipeline ranks, S stages (consecutive parts of the model), M micro-batches.
// Sources: Huang et al., "GPipe", 2019; Narayanan et al., "PipeDream-2BW", 2021 (1F1B), and
// "Efficient Large-Scale Language Model Training on GPU Clusters", 2021 (interleaved); Qi et al.,
// "Zero Bubble Pipeline Parallelism", 2023 (ZB-H1), and "Pipeline Parallelism with Controllable
// Memory", 2024 (ZB-V); DeepSeek-AI, "DualPipe" and its V-shaped variant by Sea AI Lab, 2025.
#pragma once

#include <string>
#include <vector>

namespace forja {

enum class ActionKind {
  // Computing.
  forward,
  backward,         // both gradients
  backward_input,   // the gradient of the stage's input only
  backward_weight,  // the gradients of its weights only, after backward_input
  // Transfers between neighbouring stages on different ranks; `stage` is the stage of this rank.
  send_activation,  // output of `stage` to the next stage
  recv_activation,  // input of `stage` from the stage before
  send_gradient,    // gradient of the input of `stage` to the stage before
  recv_gradient,    // gradient of the output of `stage` from the next stage
  // Weights and gradients of a stage among data-parallel ranks; micro-batch -1.
  unshard,
  reshard,
  reduce_gradients,
};

struct Action {
  ActionKind kind;
  int stage = 0;
  int microbatch = -1;
  // A forward that runs together with the action after it, a backward of another micro-batch
  // (DualPipe): the simulator gives both the time of one.
  bool overlaps_next = false;

  bool operator==(const Action&) const = default;
  // In the grammar of PyTorch's pipelining: "2F0", "1B3", "0I2", "0W2", "1SEND_F0", "0UNSHARD".
  std::string to_string() const;
};

struct Schedule {
  std::string name;
  int num_microbatches = 1;
  std::vector<int> rank_of_stage;            // [S]
  std::vector<std::vector<Action>> actions;  // [P], each in the order in which the rank runs them

  int num_ranks() const { return int(actions.size()); }
  int num_stages() const { return int(rank_of_stage.size()); }
  // The stages of a rank, ascending.
  std::vector<int> stages_of_rank(int rank) const;
};

// How many stages `name` has on P ranks: P x virtual_stages; 2 P for zb_v and dualpipe_v, which
// accept no other number (a virtual_stages of 1 counts as not given).
int num_stages(const std::string& name, int num_ranks, int virtual_stages);

// Computing actions only, by the name of a schedule (gpipe, 1f1b, interleaved_1f1b, zb_h1, zb_v,
// dualpipe_v) or from a CSV file (a name that ends in .csv): a row for each rank, a cell for each
// action, stages placed as the file says. One rank and one stage is a case of every one. Throws
// bad_input for an unknown name, for too few micro-batches, and for a CSV that is not a schedule of
// P ranks and M micro-batches (naming line, cell and what is wrong or missing).
Schedule make_schedule(const std::string& name, int num_ranks, int virtual_stages,
                       int num_microbatches);

// Every computing action of every stage and micro-batch is there once, on the rank of its stage,
// and on each rank in an order that its own dependencies allow. Throws bad_input otherwise, naming
// the action.
void check_complete(const Schedule& schedule);

// The same with its transfers: every pair of ranks has them in one global order, in which each
// comes after the computation that makes its data, so that blocking queues (NCCL's) cannot
// deadlock. A receive stands where its data can come first, ahead of its use. Transfers that the
// schedule has already (CSV) are left as they are. Appends reduce_gradients for each stage after
// the last action that adds to its gradients. Throws bad_input for a schedule that deadlocks, with
// what each rank waits for.
Schedule add_communication(const Schedule& schedule);

}  // namespace forja
