// SPDX-License-Identifier: Apache-2.0
// The lists of a schedule, run on a clock. Every list and every queue has a fixed order, so the
// times do not depend on which rank is looked at first.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "csrc/parallel/schedule/internal.h"
#include "forja/parallel/simulator.h"

namespace forja {

enum class Delivery {
  instant,  // data are everywhere when they are made; transfers in the lists are passed over
  queued,   // by the transfers in the lists
};

class Execution {
 public:
  // `schedule` (complete, see find_fault) and `times` must outlive it.
  Execution(const Schedule& schedule, const ActionTimes& times, Delivery delivery);

  // Throws bad_input on deadlock.
  void run();

  // When a computing action or a transfer ended. A backward ends backward_input too.
  double end_of(const Action& action) const;
  // In the order in which ranks came to the actions.
  const std::vector<std::vector<TimedAction>>& timeline() const { return timeline_; }
  const std::vector<double>& busy() const { return busy_; }

 private:
  struct Rank {
    size_t next = 0;       // in the list
    double free_at = 0.0;  // the end of computing so far
    double queue_free_at = 0.0;
    size_t queue_head = 0;
    struct Posted {
      Action action;
      double at;
    };
    std::vector<Posted> queue;
  };

  bool compute(int rank);
  bool transfer(int rank);
  std::optional<Action> needs(const Action& action) const;
  double ready_at(const Action& action) const;
  double duration(const Action& action) const;
  void record(int rank, const Action& action, double begin, double end);
  const Rank::Posted* head(int rank) const;
  bool finished() const;
  std::string explain_rank(int rank) const;
  std::string name_of(Action action) const;
  int rank_of(int stage) const { return schedule_.rank_of_stage[size_t(stage)]; }

  const Schedule& schedule_;
  const ActionTimes& times_;
  Delivery delivery_;
  ActionTable<double> end_;  // kNever: not run yet
  std::vector<Rank> ranks_;
  std::vector<std::vector<TimedAction>> timeline_;
  std::vector<double> busy_;
};

}  // namespace forja
