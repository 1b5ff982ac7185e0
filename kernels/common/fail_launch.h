// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace forja {

// Throws Error: `what` of `kernel` failed with `reason`.
[[noreturn]] void fail_launch(const char* what, const char* kernel, const char* reason);

}  // namespace forja
