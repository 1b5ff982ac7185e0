// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "csrc/parallel/schedule/internal.h"
#include "forja/base/error.h"

namespace forja {
namespace {

// Looks for the first fault, in the order of the checks.
class FaultFinder {
 public:
  explicit FaultFinder(const Schedule& schedule)
      : schedule_(schedule),
        place_(schedule.num_stages(), std::max(schedule.num_microbatches, 1), -1),
        reduced_(schedule.rank_of_stage.size(), false) {}

  std::optional<ScheduleFault> find() {
    check_shape();
    for (int rank = 0; !fault_ && rank < schedule_.num_ranks(); ++rank) {
      const std::vector<Action>& list = schedule_.actions[size_t(rank)];
      for (int i = 0; !fault_ && i < int(list.size()); ++i) check_action(rank, i);
    }
    transfers_ = has_transfers(schedule_);
    for (int m = 0; !fault_ && m < schedule_.num_microbatches; ++m) {
      for (int s = 0; !fault_ && s < schedule_.num_stages(); ++s) check_presence(s, m);
      for (int s = 0; !fault_ && s < schedule_.num_stages(); ++s) check_order(s, m);
    }
    return fault_;
  }

 private:
  void fault(int rank, int index, std::string message) {
    if (!fault_) fault_ = ScheduleFault{rank, index, std::move(message)};
  }

  void check_shape() {
    if (schedule_.num_microbatches < 1 || schedule_.num_ranks() < 1 || schedule_.num_stages() < 1)
      fault(0, -1, "a schedule needs a rank, a stage and a micro-batch");
    for (int s = 0; s < schedule_.num_stages(); ++s) {
      const int rank = rank_of(s);
      if (rank < 0 || rank >= schedule_.num_ranks()) {
        fault(0, -1,
              fmt::format("stage {} is on rank {}, but there are {} ranks", s, rank,
                          schedule_.num_ranks()));
      }
    }
  }

  // One action by itself: it exists, on its rank, once.
  void check_action(int rank, int index) {
    const Action& a = schedule_.actions[size_t(rank)][size_t(index)];
    const int num_stages = schedule_.num_stages(), num_microbatches = schedule_.num_microbatches;
    if (a.stage < 0 || a.stage >= num_stages) {
      return fault(rank, index,
                   fmt::format("{}: there are {} stages, 0 to {}", a.to_string(), num_stages,
                               num_stages - 1));
    }
    if (rank_of(a.stage) != rank) {
      return fault(rank, index,
                   fmt::format("{} is on rank {}, but stage {} is on rank {}", a.to_string(), rank,
                               a.stage, rank_of(a.stage)));
    }
    if (a.overlaps_next) check_overlap(rank, index);
    check_reduction(rank, index);
    if (!is_computing(a.kind) && !is_transfer(a.kind)) return;
    if (a.microbatch < 0 || a.microbatch >= num_microbatches) {
      return fault(rank, index,
                   fmt::format("{}: there are {} micro-batches, 0 to {}", a.to_string(),
                               num_microbatches, num_microbatches - 1));
    }
    if (is_transfer(a.kind) && !crosses(a)) {
      return fault(rank, index,
                   fmt::format("{}: stage {} has no neighbour on another rank there", a.to_string(),
                               a.stage));
    }
    int& place = place_(a.kind, a.stage, a.microbatch);
    if (place >= 0) fault(rank, index, a.to_string() + " is there twice");
    place = index;
  }

  // A stage's gradients are reduced once, when they are whole.
  void check_reduction(int rank, int index) {
    const Action& a = schedule_.actions[size_t(rank)][size_t(index)];
    const Action reduction{ActionKind::reduce_gradients, a.stage};
    char& reduced = reduced_[size_t(a.stage)];
    if (a.kind == ActionKind::reduce_gradients) {
      if (reduced) fault(rank, index, a.to_string() + " is there twice");
      reduced = true;
    } else if (a.kind == ActionKind::backward || a.kind == ActionKind::backward_weight) {
      if (!reduced) return;
      fault(rank, index,
            fmt::format("{} adds to gradients after {}", a.to_string(), reduction.to_string()));
    }
  }

  void check_overlap(int rank, int index) {
    const std::vector<Action>& list = schedule_.actions[size_t(rank)];
    const Action& a = list[size_t(index)];
    const Action* next = size_t(index) + 1 < list.size() ? &list[size_t(index) + 1] : nullptr;
    const bool pair =
        next && a.kind == ActionKind::forward && a.microbatch != next->microbatch &&
        (next->kind == ActionKind::backward || next->kind == ActionKind::backward_input);
    if (pair) return;
    fault(rank, index,
          fmt::format("{} overlaps {}: expected a forward and then a backward of another "
                      "micro-batch",
                      a.to_string(), next ? next->to_string() : "nothing"));
  }

  void check_presence(int s, int m) {
    require({ActionKind::forward, s, m});
    const int both = place_(ActionKind::backward, s, m);
    if (both >= 0) {
      for (const ActionKind half : {ActionKind::backward_input, ActionKind::backward_weight}) {
        const int place = place_(half, s, m);
        if (place < 0) continue;
        fault(
            rank_of(s), place,
            fmt::format("{} is there, which {} has done or will do", Action{half, s, m}.to_string(),
                        Action{ActionKind::backward, s, m}.to_string()));
      }
    } else {
      const bool input = place_(ActionKind::backward_input, s, m) >= 0;
      const bool weight = place_(ActionKind::backward_weight, s, m) >= 0;
      if (!input && !weight) require({ActionKind::backward, s, m});
      if (!input) require({ActionKind::backward_input, s, m});
      if (!weight) require({ActionKind::backward_weight, s, m});
    }
    for (int kind = int(ActionKind::send_activation); kind <= int(ActionKind::recv_gradient);
         ++kind) {
      const Action transfer{ActionKind(kind), s, m};
      if (transfers_ && crosses(transfer)) require(transfer);
    }
  }

  void require(const Action& action) {
    if (place_(action.kind, action.stage, action.microbatch) >= 0) return;
    const int rank = rank_of(action.stage);
    fault(
        rank, -1,
        fmt::format("{} ({}) is missing on rank {}", action.to_string(), action.in_words(), rank));
  }

  // What stage s does with micro-batch m comes after what it needs, as far as that is on the same
  // rank: that of stage s itself, and of every stage before it (forward) or behind it (backward).
  void check_order(int s, int m) {
    const Action forward{ActionKind::forward, s, m};
    const Action backward = gradient(s, m);
    expect_order(forward, backward);
    if (backward.kind == ActionKind::backward_input)
      expect_order(backward, {ActionKind::backward_weight, s, m});
    for (int t = s + 1; t < schedule_.num_stages(); ++t) {
      if (rank_of(t) != rank_of(s)) continue;
      expect_order(forward, {ActionKind::forward, t, m});
      expect_order(gradient(t, m), backward);
    }
    if (!transfers_) return;
    expect_order({ActionKind::recv_activation, s, m}, forward);
    expect_order(forward, {ActionKind::send_activation, s, m});
    expect_order({ActionKind::recv_gradient, s, m}, backward);
    expect_order(backward, {ActionKind::send_gradient, s, m});
  }

  void expect_order(const Action& first, const Action& second) {
    const int a = place_(first.kind, first.stage, first.microbatch);
    const int b = place_(second.kind, second.stage, second.microbatch);
    if (a < 0 || b < 0 || a < b) return;
    fault(rank_of(second.stage), b,
          fmt::format("{} comes before {}, which it needs", second.to_string(), first.to_string()));
  }

  Action gradient(int s, int m) const {
    const bool both = place_(ActionKind::backward, s, m) >= 0;
    return {both ? ActionKind::backward : ActionKind::backward_input, s, m};
  }

  bool crosses(const Action& transfer) const {
    const int peer = peer_stage(transfer);
    return peer >= 0 && peer < schedule_.num_stages() && rank_of(peer) != rank_of(transfer.stage);
  }

  int rank_of(int stage) const { return schedule_.rank_of_stage[size_t(stage)]; }

  const Schedule& schedule_;
  ActionTable<int> place_;     // in the list of its rank; -1: not there
  std::vector<char> reduced_;  // [S]
  bool transfers_ = false;
  std::optional<ScheduleFault> fault_;
};

}  // namespace

bool has_transfers(const Schedule& schedule) {
  for (const std::vector<Action>& list : schedule.actions) {
    for (const Action& action : list) {
      if (is_transfer(action.kind)) return true;
    }
  }
  return false;
}

std::optional<ScheduleFault> find_fault(const Schedule& schedule) {
  return FaultFinder(schedule).find();
}

void check_complete(const Schedule& schedule) {
  const std::optional<ScheduleFault> fault = find_fault(schedule);
  if (!fault) return;
  if (fault->index < 0) fail_input("schedule {}: {}", schedule.name, fault->message);
  fail_input("schedule {}: rank {}, action {}: {}", schedule.name, fault->rank, fault->index + 1,
             fault->message);
}

}  // namespace forja
