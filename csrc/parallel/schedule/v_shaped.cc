// SPDX-License-Identifier: Apache-2.0
// Schedules with two stages a rank, placed as a V: stage s on rank s on the way down, the rest on
// the way up, so that the first rank has the model's first stage and its last.
#include <algorithm>
#include <deque>

#include "csrc/parallel/schedule/internal.h"

namespace forja {
namespace {

enum Half { down, up };  // of the V

// The list of one rank. Each call takes the next micro-batch of its kind and half.
class Lane {
 public:
  Lane(Schedule& schedule, int rank)
      : list_(schedule.actions[size_t(rank)]),
        stage_{rank, schedule.num_stages() - 1 - rank},
        forwards_{0, 0},
        backwards_{0, 0} {}

  void forward(Half half, bool overlaps_next = false) {
    list_.push_back({ActionKind::forward, stage_[half], forwards_[half]++, overlaps_next});
  }
  void backward(Half half) {
    list_.push_back({ActionKind::backward, stage_[half], backwards_[half]++});
  }
  void backward_input(Half half) {
    const int microbatch = backwards_[half]++;
    list_.push_back({ActionKind::backward_input, stage_[half], microbatch});
    owed_.push_back({ActionKind::backward_weight, stage_[half], microbatch});
  }
  // The weight gradient that has waited longest: of any stage, or of one half.
  void backward_weight() { pay(owed_.begin()); }
  void backward_weight(Half half) {
    pay(std::find_if(owed_.begin(), owed_.end(),
                     [&](const Action& action) { return action.stage == stage_[half]; }));
  }

  int forwards(Half half) const { return forwards_[half]; }

 private:
  void pay(std::deque<Action>::iterator owed) {
    list_.push_back(*owed);
    owed_.erase(owed);
  }

  std::vector<Action>& list_;
  int stage_[2], forwards_[2], backwards_[2];
  std::deque<Action> owed_;
};

// The list of a rank for at least 2 P - 1 micro-batches, which keeps 2 P of them half a rank each.
void fill_zb_v(Lane& lane, int rank, int num_ranks, int num_microbatches) {
  // Down: as many as reach the turn and come back before this rank's first backward.
  for (int i = 0; i < 2 * (num_ranks - rank) - 1; ++i) lane.forward(down);
  for (int i = 0; i < rank; ++i) {
    lane.forward(up);
    lane.forward(down);
  }
  for (int i = 0; i < num_ranks - rank; ++i) {
    lane.forward(up);
    lane.backward_input(up);
    lane.backward_weight(up);
  }
  // Each turn of six lets one micro-batch go and takes one in, on either half.
  while (lane.forwards(up) < num_microbatches) {
    if (lane.forwards(down) < num_microbatches) lane.forward(down);
    lane.backward_input(down);
    lane.backward_weight(down);
    lane.forward(up);
    lane.backward_input(up);
    lane.backward_weight(up);
  }
  // No forwards are left to fill waits: weight gradients do, once the ranks above have their input
  // gradients.
  for (int i = 0; i < rank; ++i) {
    lane.backward_input(down);
    lane.backward_input(up);
  }
  for (int i = 0; i < num_ranks - rank; ++i) {
    lane.backward_input(down);
    lane.backward_weight(down);
  }
  for (int i = 0; i < rank; ++i) lane.backward_weight(up);
  for (int i = 0; i < rank; ++i) lane.backward_weight(down);
}

// While the pipeline fills, as a one-way schedule; in the steady state the forward of one half runs
// together with the backward of the other; then it empties, with weight gradients held back.
void fill_dualpipe_v(Lane& lane, int rank, int num_ranks, int num_microbatches) {
  const int behind = num_ranks - 1 - rank;
  const auto overlapped = [&](Half forward, Half backward) {
    lane.forward(forward, true);
    lane.backward(backward);
  };
  for (int i = 0; i < 2 * behind; ++i) lane.forward(down);
  for (int i = 0; i <= rank; ++i) {
    lane.forward(down);
    lane.forward(up);
  }
  for (int i = 0; i < behind; ++i) {
    lane.backward_input(up);
    lane.backward_weight();
    lane.forward(up);
  }
  for (int i = 0; i < num_microbatches - 2 * num_ranks + rank + 1; ++i) {
    if (i == 0 && behind == 0) {  // the rank of the turn goes first: nobody should wait for it
      lane.forward(down);
      lane.backward(up);
    } else {
      overlapped(down, up);
    }
    overlapped(up, down);
  }
  for (int i = 0; i < behind; ++i) {
    lane.backward(up);
    overlapped(up, down);
  }
  const int last = 2 * (rank + 1);
  for (int i = 0; i < last; ++i) {
    const Half half = i % 2 == 0 ? up : down;
    i < last / 2 ? lane.backward(half) : lane.backward_input(half);
  }
  for (int i = 0; i < behind; ++i) {
    lane.backward_weight();
    lane.backward_input(down);
  }
  for (int i = 0; i <= rank; ++i) lane.backward_weight();
}

}  // namespace

// Qi et al. 2024, the V-shaped schedule without bubbles ("V-ZB"). Its pattern needs 2 P - 1
// micro-batches; fewer are the same lists without the others, which keeps every order.
void generate_zb_v(Schedule& schedule) {
  const int num_ranks = schedule.num_ranks(), num_microbatches = schedule.num_microbatches;
  for (int rank = 0; rank < num_ranks; ++rank) {
    Lane lane(schedule, rank);
    fill_zb_v(lane, rank, num_ranks, std::max(num_microbatches, 2 * num_ranks - 1));
    std::erase_if(schedule.actions[size_t(rank)],
                  [&](const Action& action) { return action.microbatch >= num_microbatches; });
  }
}

// DeepSeek-AI's DualPipe (DeepSeek-V3 technical report, section 3.2.1) cut in half, so that a rank
// holds two stages of one model rather than of two.
void generate_dualpipe_v(Schedule& schedule) {
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    Lane lane(schedule, rank);
    fill_dualpipe_v(lane, rank, schedule.num_ranks(), schedule.num_microbatches);
  }
}

}  // namespace forja
