// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace forja {

extern const char* const kVersion;  // "0.1.0"
extern const char* const
    kGitRevision;  // of the tree at configure time, "-dirty" behind it when it was changed

}  // namespace forja
