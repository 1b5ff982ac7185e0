// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/testing.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>

#include "forja/base/philox.h"

namespace forja::testing {

std::string source_dir() { return FORJA_SOURCE_DIR; }

std::string asset(const std::string& relative_path) {
  const char* root = std::getenv("FORJA_TEST_ASSETS");
  const std::string path =
      std::string(root ? root : FORJA_TEST_ASSETS_DEFAULT) + "/" + relative_path;
  return std::filesystem::exists(path) ? path : "";
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "forja-test-XXXXXX").string();
  FORJA_CHECK(::mkdtemp(pattern.data()) != nullptr, "cannot make a temporary folder {}", pattern);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TensorBox::TensorBox(int64_t capacity_bytes)
    : arena_("test tensors", {}, capacity_bytes), workspace_("test workspace", {}, capacity_bytes) {
  context_.workspace = &workspace_;
}

Tensor TensorBox::zeros(DType dtype, std::initializer_list<int64_t> shape) {
  Tensor t = empty(dtype, shape);
  std::memset(t.data, 0, size_t(t.num_bytes()));
  return t;
}

Tensor TensorBox::normal(DType dtype, std::initializer_list<int64_t> shape, uint64_t seed,
                         double scale) {
  Tensor t = empty(dtype, shape);
  for (int64_t i = 0; i < t.num_elements(); ++i) {
    const Philox4 r = philox(seed, uint64_t(i), 0);
    float value, other;
    normal_pair(r.v[0], r.v[1], &value, &other);
    value = float(value * scale);
    if (dtype == DType::f32) t.ptr<float>()[i] = value;
    if (dtype == DType::bf16) t.ptr<BFloat16>()[i] = BFloat16(value);
    if (dtype == DType::f64) t.ptr<double>()[i] = value;
  }
  return t;
}

Tensor TensorBox::from(const std::vector<float>& values, std::initializer_list<int64_t> shape,
                       DType dtype) {
  Tensor t = empty(dtype, shape);
  FORJA_CHECK(int64_t(values.size()) == t.num_elements(), "{} values for {}", values.size(),
              t.to_string());
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) t.ptr<float>()[i] = values[i];
    if (dtype == DType::bf16) t.ptr<BFloat16>()[i] = BFloat16(values[i]);
  }
  return t;
}

Tensor TensorBox::from(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  Tensor t = empty(DType::i32, shape);
  FORJA_CHECK(int64_t(values.size()) == t.num_elements(), "{} values for {}", values.size(),
              t.to_string());
  std::memcpy(t.data, values.data(), values.size() * 4);
  return t;
}

std::vector<double> to_doubles(const Tensor& t) {
  std::vector<double> out;
  std::array<int64_t, Tensor::kMaxRank> index{};
  for (int64_t i = 0; i < t.num_elements(); ++i) {
    int64_t offset = 0;
    for (int d = 0; d < t.rank; ++d) offset += index[d] * t.strides[d];
    switch (t.dtype) {
      case DType::f32:
        out.push_back(t.ptr<float>()[offset]);
        break;
      case DType::bf16:
        out.push_back(double(float(t.ptr<BFloat16>()[offset])));
        break;
      case DType::f64:
        out.push_back(t.ptr<double>()[offset]);
        break;
      case DType::i32:
        out.push_back(t.ptr<int32_t>()[offset]);
        break;
      case DType::i64:
        out.push_back(double(t.ptr<int64_t>()[offset]));
        break;
      case DType::u8:
        out.push_back(t.ptr<uint8_t>()[offset]);
        break;
      case DType::u16:
        out.push_back(t.ptr<uint16_t>()[offset]);
        break;
      case DType::f16:
        out.push_back(double(half_to_float(static_cast<uint16_t*>(t.data)[offset])));
        break;
    }
    for (int d = t.rank - 1; d >= 0 && ++index[d] == t.sizes[d]; --d) index[d] = 0;
  }
  return out;
}

std::string error_of(const std::function<void()>& body, ExitCode code) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(int(e.code()), int(code)) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "expected an error";
  return "";
}

}  // namespace forja::testing
