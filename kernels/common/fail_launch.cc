// SPDX-License-Identifier: Apache-2.0
// Apart from the kernels, whose compiler should not see the formatting library.
#include "kernels/common/fail_launch.h"

#include "forja/base/error.h"

namespace forja {

void fail_launch(const char* what, const char* kernel, const char* reason) {
  fail("{} of kernel {} failed: {}", what, kernel, reason);
}

}  // namespace forja
