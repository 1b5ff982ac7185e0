// SPDX-License-Identifier: Apache-2.0
// The GGUF format, version 3, which llama.cpp reads: keys with values, descriptions of tensors,
// then their data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "forja/base/file.h"

namespace forja {

// Numbers are the format's own.
enum class GgufType : uint32_t { f32 = 0, f16 = 1, q8_0 = 8, bf16 = 30 };

// "fp32", "fp16", "q8_0", "bf16".
const char* gguf_type_name(GgufType type);

using GgufValue = std::variant<uint32_t, float, bool, std::string, std::vector<int32_t>,
                               std::vector<float>, std::vector<std::string>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // as they are written

struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  std::vector<int64_t> shape;  // row-major, as everywhere here; the file has it reversed

  int64_t num_elements() const;
  int64_t num_bytes() const;
};

inline constexpr int64_t kQ8BlockElements = 32, kQ8BlockBytes = 34;

// Appends `n` numbers as `type`. fp16 and bf16 round to nearest even. A block of q8_0 is 32
// numbers (n is a multiple): the scale in fp16, max|x| / 127, then each number over the scale
// before its own rounding, to the nearest whole number, halves away from zero (ggml's
// quantize_row_q8_0_ref). Returns the index of the first number that `type` cannot hold (not finite
// in fp16 or as a scale), or n.
int64_t append_as(GgufType type, const float* values, int64_t n, std::string* bytes);

// Writes a file tensor by tensor, beside its name; without commit() nothing stays.
class GgufWriter {
 public:
  GgufWriter(const std::string& path, const GgufMetadata& metadata,
             std::vector<GgufTensor> tensors);
  // The next tensor, in the order given to the constructor. Throws bad_input, with its name, where
  // its type cannot hold a number.
  void write(const float* values);
  void commit();
  int64_t bytes_written() const { return file_.bytes_written(); }

 private:
  void pad();

  AtomicFile file_;
  std::vector<GgufTensor> tensors_;
  size_t next_ = 0;
};

}  // namespace forja
