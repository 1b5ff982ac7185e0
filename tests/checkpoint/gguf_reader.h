// SPDX-License-Identifier: Apache-2.0
// Reads a GGUF file, as its specification says, for tests.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "forja/base/dtype.h"
#include "forja/base/error.h"
#include "forja/base/file.h"

namespace forja::testing {

struct GgufFile {
  struct Tensor {
    std::vector<uint64_t> dims;  // as the file has them: the fastest first
    uint32_t type = 0;
    std::string data;
  };
  std::map<std::string, std::string> texts;
  std::map<std::string, double> numbers;  // booleans too
  std::map<std::string, std::vector<std::string>> text_lists;
  std::map<std::string, std::vector<double>> lists;
  std::map<std::string, Tensor> tensors;

  explicit GgufFile(const std::string& path) : bytes_(read_file(path)) {
    FORJA_CHECK(bytes_.substr(0, 4) == "GGUF", "no magic");
    at_ = 4;
    FORJA_CHECK(take<uint32_t>() == 3, "version");
    const auto num_tensors = take<uint64_t>(), num_keys = take<uint64_t>();
    for (uint64_t i = 0; i < num_keys; ++i) {
      const std::string key = text();
      value(key, take<uint32_t>());
    }
    std::map<std::string, uint64_t> offsets;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      const std::string name = text();
      Tensor& t = tensors[name];
      t.dims.resize(take<uint32_t>());
      for (uint64_t& d : t.dims) d = take<uint64_t>();
      t.type = take<uint32_t>();
      offsets[name] = take<uint64_t>();
    }
    FORJA_CHECK(tensors.size() == num_tensors, "a name twice");
    const uint64_t begin = (at_ + 31) / 32 * 32;
    uint64_t end = begin;
    for (auto& [name, t] : tensors) {
      FORJA_CHECK(offsets[name] % 32 == 0, "{} at {}", name, offsets[name]);
      t.data = bytes_.substr(begin + offsets[name], size_of(t));
      FORJA_CHECK(t.data.size() == size_of(t), "{} is truncated", name);
      end = std::max(end, (begin + offsets[name] + t.data.size() + 31) / 32 * 32);
    }
    FORJA_CHECK(end == bytes_.size(), "the data ends at {} of {}", end, bytes_.size());
  }

  // The numbers of a tensor, whatever its type.
  std::vector<float> values(const std::string& name) const {
    const Tensor& t = tensors.at(name);
    std::vector<float> out(count_of(t));
    const char* data = t.data.data();
    const auto half_at = [&](size_t byte) {
      uint16_t bits;
      std::memcpy(&bits, data + byte, 2);
      return bits;
    };
    for (size_t i = 0; i < out.size(); ++i) {
      if (t.type == 0) std::memcpy(&out[i], data + 4 * i, 4);
      if (t.type == 1) out[i] = half_to_float(half_at(2 * i));
      if (t.type == 8)
        out[i] =
            half_to_float(half_at(i / 32 * 34)) * float(int8_t(data[i / 32 * 34 + 2 + i % 32]));
      if (t.type == 30) {
        const uint32_t bits = uint32_t(half_at(2 * i)) << 16;
        std::memcpy(&out[i], &bits, 4);
      }
    }
    return out;
  }

 private:
  template <class T>
  T take() {
    T out;
    FORJA_CHECK(at_ + sizeof(T) <= bytes_.size(), "truncated");
    std::memcpy(&out, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return out;
  }
  std::string text() {
    const auto size = take<uint64_t>();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  double number(uint32_t kind) {
    if (kind == 4) return take<uint32_t>();
    if (kind == 5) return take<int32_t>();
    if (kind == 6) return double(take<float>());
    FORJA_CHECK(kind == 7, "kind {}", kind);
    return take<uint8_t>();
  }
  void value(const std::string& key, uint32_t kind) {
    if (kind == 8) {
      texts[key] = text();
    } else if (kind == 9) {
      const auto element = take<uint32_t>();
      const auto count = take<uint64_t>();
      for (uint64_t i = 0; i < count; ++i) {
        if (element == 8) text_lists[key].push_back(text());
        if (element != 8) lists[key].push_back(number(element));
      }
    } else {
      numbers[key] = number(kind);
    }
  }
  static size_t count_of(const Tensor& t) {
    size_t count = 1;
    for (uint64_t d : t.dims) count *= d;
    return count;
  }
  static size_t size_of(const Tensor& t) {
    if (t.type == 8) return count_of(t) / 32 * 34;
    return count_of(t) * (t.type == 0 ? 4 : 2);
  }

  std::string bytes_;
  size_t at_ = 0;
};

}  // namespace forja::testing
