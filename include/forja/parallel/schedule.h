// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules are data: a pure function gives each rank its list of actions; the simulator
// proves things about it, the executor (train/executor.h) runs it, the report draws it.
//
// Legend: P pipeline ranks, S stages (consecutive parts of the model), M micro-batches.
// Sources: Huang et al., "GPipe", 2019; Narayanan et al., "PipeDream-2BW", 2021 (1F1B), and
// "Efficient Large-Scale Language Model Training on GPU Clusters", 2021 (interleaved); Qi et al.,
// "Zero Bubble Pipeline Parallelism", 2023 (ZB-H1), and "Pipeline Parallelism with Controllable
// Memory", 2024 (ZB-V); DeepSeek-AI, "DualPipe" and its V-shaped variant by Sea AI Lab, 2025.
#pragma once

#include <string>
#include <string_view>
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

// forward, backward, backward_input and backward_weight.
bool is_computing(ActionKind kind);
// The sends and receives.
bool is_transfer(ActionKind kind);

struct Action {
  ActionKind kind;
  int stage = 0;
  int microbatch = -1;
  // A forward that runs together with the action after it, a backward or backward_input of another
  // micro-batch (DualPipe): the simulator gives the pair the time of the longer of the two.
  bool overlaps_next = false;

  bool operator==(const Action&) const = default;
  // In the grammar of PyTorch's pipelining: "2F0", "1B3", "0I2", "0W2", "1SEND_F0", "0UNSHARD".
  std::string to_string() const;
  std::string in_words() const;  // "forward of stage 2, micro-batch 0"
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

// gpipe, 1f1b, interleaved_1f1b, zb_h1, zb_v, dualpipe_v.
const std::vector<std::string>& schedule_names();
// True where `name` is that of a file rather than of an algorithm: it ends in .csv.
bool is_schedule_file(std::string_view name);

// How many stages `name` has on P ranks: P x virtual_stages for interleaved_1f1b and a CSV file; P
// for gpipe, 1f1b and zb_h1, which accept no virtual_stages but 1; 2 P for zb_v and dualpipe_v,
// which accept no other number (a virtual_stages of 1 counts as not given). Reads no file. Throws
// bad_input for an unknown name, with the nearest one, and for a virtual_stages that does not fit.
int num_stages(const std::string& name, int num_ranks, int virtual_stages);

// Computing actions only, by the name of a schedule or from a CSV file: a row for each rank, a cell
// for each action, stages placed as the file says; transfers in the file are kept. One rank and one
// stage is a case of every one. Any number of micro-batches will do, but for interleaved_1f1b with
// several stages a rank (a multiple of P) and dualpipe_v (at least 2 P). Throws bad_input for an
// unknown name, for a number of micro-batches that does not fit, and for a CSV that is not a
// schedule of P ranks, P x virtual_stages stages and M micro-batches (naming line, cell and what is
// wrong or missing).
Schedule make_schedule(const std::string& name, int num_ranks, int virtual_stages,
                       int num_microbatches);

// The same from the text of a CSV file; `file` stands for it in messages, as file:line:cell.
Schedule parse_schedule(const std::string& text, const std::string& file, int num_ranks,
                        int virtual_stages, int num_microbatches);
// The CSV that reads back as `schedule`.
std::string to_csv(const Schedule& schedule);

// Every computing action of every stage and micro-batch is there once (backward, or backward_input
// and backward_weight), on the rank of its stage, and on each rank in an order that its own
// dependencies allow; and so are the transfers, in a schedule that has any. No gradients are
// reduced twice or before they are whole. Throws bad_input otherwise, naming the action.
void check_complete(const Schedule& schedule);

// The same with its transfers: all of them have one global order, in which each comes after the
// computation that makes its data, and every rank has its own in that order, so that blocking
// queues (NCCL's) cannot deadlock, however long actions take. A send stands directly after the
// action that makes its data. A receive stands one action ahead of where its data can first come,
// so that an early sender need not wait and few receives are open at a time (at most three whose
// data a rank has not used, for activations and for gradients each; in interleaved_1f1b, where data
// come long before their turn, up to about P). Neighbouring stages on one rank (the turn of a V)
// hand over without a transfer.
// Transfers that the schedule has already (CSV) are left as they are. Puts reduce_gradients for
// each stage that has none directly after the last action that adds to its gradients and the
// transfers there. Throws bad_input for a schedule that deadlocks, with what each rank waits for.
Schedule add_communication(const Schedule& schedule);

}  // namespace forja
