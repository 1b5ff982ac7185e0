// SPDX-License-Identifier: Apache-2.0
#include "forja/base/version.h"

namespace forja {

const char* const kVersion = FORJA_VERSION;
const char* const kGitRevision = FORJA_GIT_REVISION;

}  // namespace forja
