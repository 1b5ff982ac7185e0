// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run tell each other before they act alike. All of it is collective.
#pragma once

#include <cstdint>
#include <string>

#include "forja/comm/communicator.h"
#include "forja/comm/world.h"

namespace forja {

// Throws bad_input, naming `what`, unless every rank has the same hash of it.
void agree_on(Communicator& world, const std::string& what, uint64_t hash);

// The text of the lowest rank that has one, with that rank's number where there are several ranks;
// "" where none has. At most 1023 bytes of it.
std::string first_of_ranks(Communicator& world, std::string mine);

// Throws bad_input, naming the host, where a rank does not see `file` as the first rank has just
// written it: its folder is not shared. Waits some seconds for file systems that show it late.
void check_shared(World& world, const std::string& file);

}  // namespace forja
