// SPDX-License-Identifier: Apache-2.0
// The parts of a run's report, as HTML.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "csrc/report/chart.h"
#include "csrc/report/run_data.h"

namespace forja {

// The colours of kTimeParts, of those in page_style.cc.
inline constexpr std::array<int, kTimeParts.size()> kTimeColors = {4, 6, 1, 5, 8, 7, 2, 3, 9};

// The charts of what the run recorded, in the order of the page; what it did not record is left
// out.
std::vector<Chart> make_charts(const RunData& run);
XRange step_range(const RunData& run);

std::string header_section(const RunData& run);    // name, model, data, layout
std::string tiles_section(const RunData& run);     // steps, tokens, losses, speed
std::string warnings_section(const RunData& run);  // "" where there are none
std::string loss_table(const RunData& run);  // training and every validation set, last and best
std::string time_table(
    const RunData& run);  // mean and share of the parts of a step; "" without any
// One cell of the grid of charts, or a whole row of it.
std::string environment_section(const RunData& run, bool wide);
std::string config_section(const RunData& run);

// The mean of a field over the steps that say it; NaN where none does. Rates are weighted by the
// time of their step, so that the mean is the whole over the whole time.
enum class Weight { steps, time };
double mean_of(const RunData& run, float StepRecord::*field, Weight weight);
// The training loss at the end, smoothed as in the chart: the mean of the last `num_steps`; NaN and
// 0 without any.
struct LastLoss {
  double loss = NAN;
  int64_t num_steps = 0;
};
LastLoss last_loss(const RunData& run);

}  // namespace forja
