// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <tuple>

#include "csrc/parallel/schedule/execution.h"

namespace forja {
namespace {

struct Transfer {
  Action send;
  double made_at;  // when its data are there
};

// Every transfer, in the one order that all ranks follow: by the time at which its data are made
// when transfers take none. Whatever a rank computes ahead of a send has had its own data earlier,
// so the first transfer of the order that has not happened yet can always happen, and blocking
// queues cannot deadlock; and with these times nobody waits longer than for its data.
std::vector<Transfer> order_transfers(const Schedule& schedule) {
  const ActionTimes times;
  Execution execution(schedule, times, Delivery::instant);
  execution.run();
  std::vector<Transfer> transfers;
  for (int s = 0; s + 1 < schedule.num_stages(); ++s) {
    if (schedule.rank_of_stage[size_t(s)] == schedule.rank_of_stage[size_t(s) + 1]) continue;
    for (int m = 0; m < schedule.num_microbatches; ++m) {
      transfers.push_back(
          {{ActionKind::send_activation, s, m}, execution.end_of({ActionKind::forward, s, m})});
      transfers.push_back({{ActionKind::send_gradient, s + 1, m},
                           execution.end_of({ActionKind::backward_input, s + 1, m})});
    }
  }
  std::sort(transfers.begin(), transfers.end(), [](const Transfer& a, const Transfer& b) {
    return std::tuple(a.made_at, a.send.stage, a.send.kind, a.send.microbatch) <
           std::tuple(b.made_at, b.send.stage, b.send.kind, b.send.microbatch);
  });
  return transfers;
}

// The lists of computing actions with transfers put between them.
class Inserter {
 public:
  explicit Inserter(const Schedule& schedule)
      : schedule_(schedule),
        place_(schedule.num_stages(), schedule.num_microbatches, 0),
        after_(schedule.actions.size()),
        latest_(schedule.actions.size(), 0) {
    for (size_t rank = 0; rank < schedule.actions.size(); ++rank) {
      const std::vector<Action>& list = schedule.actions[rank];
      after_[rank].resize(list.size() + 1);
      for (size_t i = 0; i < list.size(); ++i) {
        const Action& action = list[i];
        if (!is_computing(action.kind)) continue;
        // Nothing comes between the two of an overlapped pair.
        const size_t place = i + (action.overlaps_next ? 2 : 1);
        place_(action.kind, action.stage, action.microbatch) = place;
        if (action.kind == ActionKind::backward)
          place_(ActionKind::backward_input, action.stage, action.microbatch) = place;
      }
    }
  }

  // In the global order.
  void insert(const Action& send) {
    const bool activation = is_of_activation(send.kind);
    const size_t made = place_(activation ? ActionKind::forward : ActionKind::backward_input,
                               send.stage, send.microbatch);
    const size_t rank = rank_of(send.stage);
    latest_[rank] = std::max(latest_[rank], made);
    after_[rank][latest_[rank]].push_back(send);
    const Action receive = other_side(send);
    const size_t peer = rank_of(receive.stage);
    after_[peer][latest_[peer]].push_back(receive);
  }

  std::vector<std::vector<Action>> lists() const {
    std::vector<std::vector<Action>> out(after_.size());
    for (size_t rank = 0; rank < out.size(); ++rank) {
      const std::vector<Action>& list = schedule_.actions[rank];
      for (size_t i = 0; i <= list.size(); ++i) {
        if (i > 0) out[rank].push_back(list[i - 1]);
        out[rank].insert(out[rank].end(), after_[rank][i].begin(), after_[rank][i].end());
      }
    }
    return out;
  }

 private:
  size_t rank_of(int stage) const { return size_t(schedule_.rank_of_stage[size_t(stage)]); }

  const Schedule& schedule_;
  ActionTable<size_t> place_;  // behind how many actions of its rank's list its data are made
  std::vector<std::vector<std::vector<Action>>> after_;  // [P][number of actions ahead]
  std::vector<size_t> latest_;                           // [P] where the last transfer went
};

bool has_reduction(const Schedule& schedule) {
  for (const std::vector<Action>& list : schedule.actions) {
    for (const Action& action : list) {
      if (action.kind == ActionKind::reduce_gradients) return true;
    }
  }
  return false;
}

void append_reductions(Schedule& schedule) {
  for (int s = 0; s < schedule.num_stages(); ++s) {
    std::vector<Action>& list = schedule.actions[size_t(schedule.rank_of_stage[size_t(s)])];
    const auto last = std::find_if(list.rbegin(), list.rend(), [&](const Action& action) {
      return action.stage == s &&
             (action.kind == ActionKind::backward || action.kind == ActionKind::backward_weight);
    });
    list.insert(last.base(), {ActionKind::reduce_gradients, s});
  }
}

}  // namespace

Schedule add_communication(const Schedule& schedule) {
  check_complete(schedule);
  Schedule out = schedule;
  if (has_transfers(schedule)) {
    const ActionTimes times;
    Execution(schedule, times, Delivery::queued).run();
  } else {
    Inserter inserter(schedule);
    for (const Transfer& transfer : order_transfers(schedule)) inserter.insert(transfer.send);
    out.actions = inserter.lists();
  }
  if (!has_reduction(out)) append_reductions(out);
  return out;
}

}  // namespace forja
