// SPDX-License-Identifier: Apache-2.0
// The picture of a pipeline schedule: a row for each rank, time to the right.
#pragma once

#include <string>

#include "forja/parallel/schedule.h"
#include "forja/parallel/simulator.h"

namespace forja {

// A self-contained SVG file, in light or dark as the reader's system asks for. Forward, input
// gradient, weight gradients and whole backward have a colour each, paler for the later stages of a
// rank; cells carry their micro-batch where they are wide enough; overlapped pairs share the height
// of the row. `caption` stands below. `simulation` is of `schedule`.
std::string render_timeline_svg(const Schedule& schedule, const Simulation& simulation,
                                const std::string& caption);

}  // namespace forja
