// SPDX-License-Identifier: Apache-2.0
// What a pipeline schedule costs, in numbers that compare schedules with different numbers of
// stages.
#pragma once

#include <string>

#include "forja/parallel/schedule.h"
#include "forja/parallel/simulator.h"

namespace forja {

// Times in which the forward of one rank's share of the model (1/P of it) takes 1, its input
// gradient 1, its weight gradients 1 and a transfer none; a stage of S takes P / S of them.
ActionTimes unit_times(const Schedule& schedule);

// Stages, makespan and bubble against the formulas of GPipe and 1F1B, and for each rank the
// micro-batches whose activations it keeps, in units of its share of the model. `simulation` is of
// `schedule` with unit_times.
std::string describe_schedule(const Schedule& schedule, const Simulation& simulation);

// The same in one sentence, for a caption.
std::string summarize_schedule(const Schedule& schedule, const Simulation& simulation);

}  // namespace forja
