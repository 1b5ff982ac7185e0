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
// when transfers take none. Whatever a rank computes ahead of a transfer has had its own data
// earlier, so the first transfer of the order that has not happened yet can always happen, and
// blocking queues cannot deadlock; and with these times nobody waits longer than for its data.
std::vector<Transfer> order_transfers(const Schedule& schedule, const Execution& execution) {
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
  Inserter(const Schedule& schedule, const Execution& execution)
      : schedule_(schedule),
        steps_(schedule.actions.size()),
        after_(schedule.actions.size()),
        latest_(schedule.actions.size(), 0) {
    for (size_t rank = 0; rank < schedule.actions.size(); ++rank) {
      const std::vector<Action>& list = schedule.actions[rank];
      after_[rank].resize(list.size() + 1);
      for (size_t i = 0; i < list.size(); ++i) {
        if (!is_computing(list[i].kind)) continue;
        const double end = execution.end_of(list[i]);
        if (list[i].overlaps_next) ++i;  // nothing comes between the two of a pair
        steps_[rank].push_back({end, i + 1});
      }
    }
  }

  // In the global order.
  void insert(const Transfer& transfer) {
    const Action receive = other_side(transfer.send);
    put(transfer.send, transfer.made_at, 0);
    put(receive, transfer.made_at, kAhead);
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
  // A receive stands this many steps ahead of where its data can come first: a sender that is early
  // need not wait. More would cost memory for data that cannot be there yet.
  static constexpr size_t kAhead = 1;

  struct Step {  // an action, or an overlapped pair
    double end;
    size_t place;  // behind how many actions of its rank's list
  };

  // Behind the steps that have ended at `time`, or `ahead` steps earlier; never before a transfer
  // that is earlier in the order.
  void put(const Action& action, double time, size_t ahead) {
    const size_t rank = size_t(schedule_.rank_of_stage[size_t(action.stage)]);
    const std::vector<Step>& steps = steps_[rank];
    const auto ended = std::upper_bound(steps.begin(), steps.end(), time,
                                        [](double t, const Step& step) { return t < step.end; });
    const size_t count = size_t(ended - steps.begin());
    if (count > ahead) latest_[rank] = std::max(latest_[rank], steps[count - 1 - ahead].place);
    after_[rank][latest_[rank]].push_back(action);
  }

  const Schedule& schedule_;
  std::vector<std::vector<Step>> steps_;                 // [P]
  std::vector<std::vector<std::vector<Action>>> after_;  // [P][number of actions ahead]
  std::vector<size_t> latest_;                           // [P] where the last transfer went
};

// Other ranks may wait for what is sent there; nobody waits for the reduction.
void append_reductions(Schedule& schedule) {
  for (int s = 0; s < schedule.num_stages(); ++s) {
    std::vector<Action>& list = schedule.actions[size_t(schedule.rank_of_stage[size_t(s)])];
    const Action reduction{ActionKind::reduce_gradients, s};
    if (std::find(list.begin(), list.end(), reduction) != list.end()) continue;
    const auto last = std::find_if(list.rbegin(), list.rend(), [&](const Action& action) {
      return action.stage == s &&
             (action.kind == ActionKind::backward || action.kind == ActionKind::backward_weight);
    });
    auto place = last.base();
    while (place != list.end() && is_transfer(place->kind)) ++place;
    list.insert(place, reduction);
  }
}

}  // namespace

Schedule add_communication(const Schedule& schedule) {
  check_complete(schedule);
  Schedule out = schedule;
  const ActionTimes times;
  if (has_transfers(schedule)) {
    Execution(schedule, times, Delivery::queued).run();
  } else {
    Execution execution(schedule, times, Delivery::instant);
    execution.run();
    Inserter inserter(schedule, execution);
    for (const Transfer& transfer : order_transfers(schedule, execution)) inserter.insert(transfer);
    out.actions = inserter.lists();
  }
  append_reductions(out);
  return out;
}

}  // namespace forja
