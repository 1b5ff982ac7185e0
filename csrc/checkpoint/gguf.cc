// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "forja/base/dtype.h"
#include "forja/base/error.h"

namespace forja {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;  // the format's default

// The format's numbers of the kinds of values, in the order of GgufValue; a list is an array of the
// kind of its elements.
enum ValueKind : uint32_t {
  kInt32 = 5,
  kUint32 = 4,
  kFloat = 6,
  kBool = 7,
  kString = 8,
  kArray = 9
};

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class Bytes {
 public:
  template <class T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void string(const std::string& value) {
    number(uint64_t(value.size()));
    text_ += value;
  }
  void operator()(uint32_t value) { number(uint32_t(kUint32)), number(value); }
  void operator()(float value) { number(uint32_t(kFloat)), number(value); }
  void operator()(bool value) { number(uint32_t(kBool)), number(uint8_t(value)); }
  void operator()(const std::string& value) { number(uint32_t(kString)), string(value); }
  void operator()(const std::vector<int32_t>& values) {
    begin_array(kInt32, values.size());
    for (int32_t value : values) number(value);
  }
  void operator()(const std::vector<float>& values) {
    begin_array(kFloat, values.size());
    for (float value : values) number(value);
  }
  void operator()(const std::vector<std::string>& values) {
    begin_array(kString, values.size());
    for (const std::string& value : values) string(value);
  }
  const std::string& text() const { return text_; }

 private:
  void begin_array(ValueKind element, size_t count) {
    number(uint32_t(kArray));
    number(uint32_t(element));
    number(uint64_t(count));
  }
  std::string text_;
};

void append_16(uint16_t bits, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(&bits), 2);
}

bool is_finite_half(uint16_t bits) { return (bits & 0x7C00) != 0x7C00; }

// The index of the first number that is not finite, or n.
int64_t finite_until(const float* values, int64_t n) {
  return std::find_if(values, values + n, [](float v) { return !std::isfinite(v); }) - values;
}

int64_t append_half(const float* values, int64_t n, std::string* bytes) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = float_to_half(values[i]);
    if (!is_finite_half(bits)) return i;
    append_16(bits, bytes);
  }
  return n;
}

int64_t append_q8_0(const float* values, int64_t n, std::string* bytes) {
  FORJA_CHECK(n % kQ8BlockElements == 0, "{} numbers are no blocks of q8_0", n);
  const int64_t finite = finite_until(values, n);
  if (finite < n) return finite;
  for (int64_t begin = 0; begin < n; begin += kQ8BlockElements) {
    const float* block = values + begin;
    const float* largest = std::max_element(block, block + kQ8BlockElements, [](float a, float b) {
      return std::fabs(a) < std::fabs(b);
    });
    const float scale = std::fabs(*largest) / 127.0f;
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    const uint16_t bits = float_to_half(scale);
    if (!is_finite_half(bits)) return largest - values;
    append_16(bits, bytes);
    // A scale too small to have an inverse is zero in fp16 as well.
    for (int64_t i = 0; i < kQ8BlockElements; ++i)
      bytes->push_back(std::isfinite(inverse) ? char(int8_t(std::roundf(block[i] * inverse))) : 0);
  }
  return n;
}

}  // namespace

const char* gguf_type_name(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return "fp32";
    case GgufType::f16:
      return "fp16";
    case GgufType::q8_0:
      return "q8_0";
    case GgufType::bf16:
      return "bf16";
  }
  return "unknown";
}

int64_t GgufTensor::num_elements() const {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

int64_t GgufTensor::num_bytes() const {
  if (type == GgufType::q8_0) return num_elements() / kQ8BlockElements * kQ8BlockBytes;
  return num_elements() * (type == GgufType::f32 ? 4 : 2);
}

int64_t append_as(GgufType type, const float* values, int64_t n, std::string* bytes) {
  if (type == GgufType::f16) return append_half(values, n, bytes);
  if (type == GgufType::q8_0) return append_q8_0(values, n, bytes);
  if (type == GgufType::f32) {
    bytes->append(reinterpret_cast<const char*>(values), size_t(n) * 4);
    return n;
  }
  for (int64_t i = 0; i < n; ++i) append_16(std::bit_cast<uint16_t>(BFloat16(values[i])), bytes);
  return n;
}

GgufWriter::GgufWriter(const std::string& path, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  Bytes header;
  header.number(kVersion);
  header.number(uint64_t(tensors_.size()));
  header.number(uint64_t(metadata.size()));
  for (const auto& [key, value] : metadata) {
    header.string(key);
    std::visit(header, value);
  }
  int64_t offset = 0;
  for (const GgufTensor& t : tensors_) {
    FORJA_CHECK(t.type != GgufType::q8_0 || t.shape.back() % kQ8BlockElements == 0,
                "rows of {} in {} are no blocks of q8_0", t.shape.back(), t.name);
    header.string(t.name);
    header.number(uint32_t(t.shape.size()));
    for (auto size = t.shape.rbegin(); size != t.shape.rend(); ++size)
      header.number(uint64_t(*size));
    header.number(uint32_t(t.type));
    header.number(uint64_t(offset));
    offset += aligned(t.num_bytes());
  }
  file_.write("GGUF");
  file_.write(header.text());
  pad();
}

void GgufWriter::write(const float* values) {
  FORJA_CHECK(next_ < tensors_.size(), "more tensors written than announced");
  const GgufTensor& t = tensors_[next_++];
  constexpr int64_t kAtOnce = 1 << 16;
  static_assert(kAtOnce % kQ8BlockElements == 0);
  std::string bytes;
  const int64_t n = t.num_elements();
  for (int64_t begin = 0; begin < n; begin += kAtOnce) {
    const int64_t count = std::min(kAtOnce, n - begin);
    bytes.clear();
    const int64_t done = append_as(t.type, values + begin, count, &bytes);
    if (done < count) {
      fail_input("{} of {} has no place in {}: choose bf16 or fp32", values[begin + done], t.name,
                 gguf_type_name(t.type));
    }
    file_.write(bytes);
  }
  pad();
}

void GgufWriter::pad() {
  const int64_t at = file_.bytes_written();
  file_.write(std::string(size_t(aligned(at) - at), '\0'));
}

void GgufWriter::commit() {
  FORJA_CHECK(next_ == tensors_.size(), "{} of {} tensors written", next_, tensors_.size());
  file_.commit();
}

}  // namespace forja
