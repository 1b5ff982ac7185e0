// SPDX-License-Identifier: Apache-2.0
// How checkpoints name the states of a parameter.
#pragma once

#include <utility>

#include "forja/parallel/parameter_store.h"

namespace forja {

inline constexpr std::pair<StateKind, const char*> kStateNames[] = {
    {StateKind::weight, "model/"},
    {StateKind::first_moment, "first_moment/"},
    {StateKind::second_moment, "second_moment/"}};

}  // namespace forja
