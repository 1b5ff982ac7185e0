// SPDX-License-Identifier: Apache-2.0
// Schedules whose stage s is on rank s mod P: GPipe, 1F1B, interleaved 1F1B, ZB-H1.
#include <algorithm>

#include "csrc/parallel/schedule/internal.h"

namespace forja {

// All forwards, then all backwards.
void generate_gpipe(Schedule& schedule) {
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    std::vector<Action>& list = schedule.actions[size_t(rank)];
    for (const ActionKind kind : {ActionKind::forward, ActionKind::backward}) {
      for (int m = 0; m < schedule.num_microbatches; ++m) list.push_back({kind, rank, m});
    }
  }
}

namespace {

// Forwards ahead as many as there are ranks behind this one, then a forward and a backward in turn:
// backward(m) appends what becomes of micro-batch m.
template <class Backward>
void one_forward_one_backward(Schedule& schedule, int rank, const Backward& backward) {
  std::vector<Action>& list = schedule.actions[size_t(rank)];
  const int num_microbatches = schedule.num_microbatches;
  const int ahead = std::min(schedule.num_ranks() - 1 - rank, num_microbatches);
  for (int m = 0; m < ahead; ++m) list.push_back({ActionKind::forward, rank, m});
  for (int m = 0; m < num_microbatches; ++m) {
    if (m + ahead < num_microbatches) list.push_back({ActionKind::forward, rank, m + ahead});
    backward(m);
  }
}

}  // namespace

// A rank keeps no more micro-batches than are on their way to its first backward.
void generate_1f1b(Schedule& schedule) {
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    one_forward_one_backward(schedule, rank, [&](int m) {
      schedule.actions[size_t(rank)].push_back({ActionKind::backward, rank, m});
    });
  }
}

// Narayanan et al., section 2.2. Micro-batches go through the model's first P stages (one a rank)
// in groups of P, then through the next P, and so on; backward the same from the last. One more
// forward is ahead for each rank behind (there and back), and a whole group for each stage that the
// rank has after its first.
void generate_interleaved_1f1b(Schedule& schedule) {
  const int num_ranks = schedule.num_ranks(), per_rank = schedule.num_stages() / num_ranks;
  const int of_rank = per_rank * schedule.num_microbatches;  // forwards
  const auto nth = [&](ActionKind kind, int rank, int n) -> Action {
    const int round = n / num_ranks % per_rank;
    const int visit = kind == ActionKind::forward ? round : per_rank - 1 - round;
    const int microbatch = n / (num_ranks * per_rank) * num_ranks + n % num_ranks;
    return {kind, visit * num_ranks + rank, microbatch};
  };
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<Action>& list = schedule.actions[size_t(rank)];
    const int ahead = std::min(2 * (num_ranks - 1 - rank) + (per_rank - 1) * num_ranks, of_rank);
    for (int n = 0; n < ahead; ++n) list.push_back(nth(ActionKind::forward, rank, n));
    for (int n = 0; n < of_rank; ++n) {
      if (n + ahead < of_rank) list.push_back(nth(ActionKind::forward, rank, n + ahead));
      list.push_back(nth(ActionKind::backward, rank, n));
    }
  }
}

// Qi et al. 2023, section 3.1. 1F1B with the input gradients in the place of the backwards, so that
// they reach the first rank sooner; rank r holds back its weight gradients by r micro-batches,
// which fill its wait at the end. So every rank keeps P micro-batches, as the first one of 1F1B
// does.
void generate_zb_h1(Schedule& schedule) {
  const int num_microbatches = schedule.num_microbatches;
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    std::vector<Action>& list = schedule.actions[size_t(rank)];
    one_forward_one_backward(schedule, rank, [&](int m) {
      list.push_back({ActionKind::backward_input, rank, m});
      if (m >= rank) list.push_back({ActionKind::backward_weight, rank, m - rank});
    });
    for (int m = std::max(num_microbatches - rank, 0); m < num_microbatches; ++m)
      list.push_back({ActionKind::backward_weight, rank, m});
  }
}

}  // namespace forja
