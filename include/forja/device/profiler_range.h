// SPDX-License-Identifier: Apache-2.0
// A named stretch of the calling thread's work, which NVIDIA's profilers show (NVTX). Nothing where
// no profiler runs, and in builds without CUDA.
#pragma once

namespace forja {

class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name);
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
  ~ProfilerRange();
};

}  // namespace forja
