// SPDX-License-Identifier: Apache-2.0
// What every communicator checks of the arguments of a call, before anything is enqueued.
#pragma once

#include "csrc/comm/reduce.h"

namespace forja {

// `large` holds one `small` for each of `size` ranks.
inline void check_parts(const Tensor& small, const Tensor& large, int size, const char* call) {
  FORJA_CHECK(small.is_contiguous() && large.is_contiguous() && small.dtype == large.dtype &&
                  large.num_elements() == small.num_elements() * size,
              "{}: {} and {} among {} ranks", call, small.to_string(), large.to_string(), size);
}

inline void check_reducible(const Tensor& data, const char* call) {
  FORJA_CHECK(data.is_contiguous() && is_reducible(data.dtype), "{} of {}", call, data.to_string());
}

inline void check_broadcast(const Tensor& data, int root, int size) {
  FORJA_CHECK(data.is_contiguous() && root >= 0 && root < size,
              "broadcast of {} from rank {} of {}", data.to_string(), root, size);
}

}  // namespace forja
