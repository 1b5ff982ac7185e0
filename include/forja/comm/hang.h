// SPDX-License-Identifier: Apache-2.0
// Who holds up a job that does not go on: the ranks wait for one another as far as the calls that
// each has made say, and at the end of the chain stands the rank that has not come, a circle, or a
// transfer that does not end though all have come.
#pragma once

#include <string>
#include <vector>

#include "forja/comm/flight_record.h"

namespace forja {

// ranks[r] is rank r's. In words, which ranks have not arrived, at which call, and who waits for
// them; "" unless some rank that is heard of and all that it waits for, directly or not, have not
// moved for `limit_s`, or a rank is lost. A silent rank counts as one that has not moved.
std::string explain_hang(const std::vector<RankStatus>& ranks, double limit_s);

}  // namespace forja
