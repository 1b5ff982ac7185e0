// SPDX-License-Identifier: Apache-2.0
// What tests share: owned tensors, random values, assets, temporary folders.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "forja/base/error.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::testing {

// The root of the source tree.
std::string source_dir();
// A file below the test assets (environment variable FORJA_TEST_ASSETS), or "" where it is missing.
std::string asset(const std::string& relative_path);

// A folder that is removed at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Tensors that live as long as the object, and a context with scratch to run ops with.
class TensorBox {
 public:
  explicit TensorBox(int64_t capacity_bytes = int64_t(1) << 30);
  Context& context() { return context_; }
  Tensor empty(DType dtype, std::initializer_list<int64_t> shape) {
    return allocate(arena_, dtype, shape);
  }
  Tensor zeros(DType dtype, std::initializer_list<int64_t> shape);
  // Normal numbers from (seed, element), rounded to the dtype (f32, bf16 or f64).
  Tensor normal(DType dtype, std::initializer_list<int64_t> shape, uint64_t seed,
                double scale = 1.0);
  Tensor from(const std::vector<float>& values, std::initializer_list<int64_t> shape,
              DType dtype = DType::f32);
  Tensor from(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape);

 private:
  Arena arena_, workspace_;
  Context context_;
};

// Every element in row-major order of the view (strides respected), as double.
std::vector<double> to_doubles(const Tensor& t);

// Runs `body` and returns the message of the Error that it throws with this code; fails the test
// otherwise.
std::string error_of(const std::function<void()>& body, ExitCode code = ExitCode::failed);

}  // namespace forja::testing

// Skips the test with a message where a needed asset is missing.
#define FORJA_REQUIRE_ASSET(variable, relative_path)                   \
  const std::string variable = ::forja::testing::asset(relative_path); \
  if (variable.empty())                                                \
  GTEST_SKIP() << "needs the test asset " << (relative_path) << " (set FORJA_TEST_ASSETS)"
