// SPDX-License-Identifier: Apache-2.0
// What the files of this folder share: words about actions, tables over them, the generators.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "forja/parallel/schedule.h"

namespace forja {

// "F", "SEND_B", ...: the action's name in the CSV grammar.
const char* kind_name(ActionKind kind);
bool is_send(ActionKind kind);
// A transfer of an activation rather than of a gradient.
bool is_of_activation(ActionKind kind);

// The stage at the other end of a transfer, and the action there that meets it.
int peer_stage(const Action& transfer);
Action other_side(const Action& transfer);

// A value for each kind of computing or transferring action x stage x micro-batch.
template <class T>
class ActionTable {
 public:
  ActionTable(int num_stages, int num_microbatches, T value)
      : num_stages_(num_stages),
        num_microbatches_(num_microbatches),
        values_(size_t(kKinds) * size_t(num_stages) * size_t(num_microbatches), value) {}

  T& operator()(ActionKind kind, int stage, int microbatch) {
    return values_[index(kind, stage, microbatch)];
  }
  const T& operator()(ActionKind kind, int stage, int microbatch) const {
    return values_[index(kind, stage, microbatch)];
  }

 private:
  static constexpr int kKinds = int(ActionKind::recv_gradient) + 1;
  size_t index(ActionKind kind, int stage, int microbatch) const {
    return (size_t(kind) * size_t(num_stages_) + size_t(stage)) * size_t(num_microbatches_) +
           size_t(microbatch);
  }

  int num_stages_, num_microbatches_;
  std::vector<T> values_;
};

// Why a schedule is not complete.
struct ScheduleFault {
  int rank = 0;
  int index = -1;  // of the action in its rank's list; -1: of one that is not there
  std::string message;
};
std::optional<ScheduleFault> find_fault(const Schedule& schedule);
bool has_transfers(const Schedule& schedule);

// The generators fill `actions` of a schedule whose stages are placed.
void generate_gpipe(Schedule& schedule);
void generate_1f1b(Schedule& schedule);
void generate_interleaved_1f1b(Schedule& schedule);  // M a multiple of P
void generate_zb_h1(Schedule& schedule);
void generate_zb_v(Schedule& schedule);
void generate_dualpipe_v(Schedule& schedule);  // M at least 2 P

}  // namespace forja
