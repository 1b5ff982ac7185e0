// SPDX-License-Identifier: Apache-2.0
// Runs a schedule on a clock: when each action begins and ends, how long ranks wait, how many
// micro-batches are alive, or that nobody can go on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/parallel/schedule.h"

namespace forja {

// Durations in any unit. A backward takes backward_input + backward_weight.
struct ActionTimes {
  double forward = 1.0, backward_input = 1.0, backward_weight = 1.0;
  double transfer = 0.0;            // of an activation or a gradient between ranks
  std::vector<double> stage_scale;  // of computing, by stage; empty: 1
};

struct TimedAction {
  Action action;
  double begin = 0.0, end = 0.0;
};

struct Simulation {
  std::vector<std::vector<TimedAction>> timeline;  // [P], computing and transfers, by begin
  double makespan = 0.0;
  std::vector<double> busy;      // [P] time spent computing; an overlapped pair counts once
  double bubble_fraction = 0.0;  // 1 - sum of busy / (P x makespan)
  // The most micro-batches whose activations a stage holds at once, from the begin of forward to
  // the end of backward (or backward_weight): by stage, and summed over a rank's stages at its
  // worst moment.
  std::vector<int> peak_by_stage, peak_by_rank;
};

// Computing goes in the order of the list. Transfers go in the order of the list too, in a queue of
// their own for each rank, one at a time, and only when both sides have come to them (rendezvous,
// as NCCL); a transfer joins the queue when the computing actions ahead of it in the list have
// ended. A computing action waits for the transfers of its data. Actions on weights and gradients
// of a stage take no time. A schedule without transfers (make_schedule) is given them by
// add_communication first. Throws bad_input for a schedule that is not complete (check_complete),
// and on deadlock, naming for each rank the action at which it stands and what it waits for.
Simulation simulate(const Schedule& schedule, const ActionTimes& times);

}  // namespace forja
