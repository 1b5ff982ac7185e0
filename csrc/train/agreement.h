// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run tell each other before they act alike. All of it is collective.
#pragma once

#include <cstdint>
#include <string>

#include "forja/comm/communicator.h"

namespace forja {

// Throws bad_input, naming `what`, unless every rank has the same hash of it.
void agree_on(Communicator& world, const std::string& what, uint64_t hash);

// The text of the lowest rank that has one, with that rank's number where there are several ranks;
// "" where none has. At most 1023 bytes of it.
std::string first_of_ranks(Communicator& world, std::string mine);

}  // namespace forja
