// SPDX-License-Identifier: Apache-2.0
// Fields of a serialised protocol buffer, as far as their kinds are known to it.
// https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstdint>
#include <string_view>

#include "forja/base/error.h"

namespace forja {

class ProtobufFields {
 public:
  explicit ProtobufFields(std::string_view bytes) : rest_(bytes) {}

  // The next field; false at the end. `bytes` is what a text, a message or a fixed number consists
  // of, and empty for a varint, which `value()` then is. Throws bad_input for what is no protocol
  // buffer.
  bool next(uint32_t* number, std::string_view* bytes) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    *number = uint32_t(tag >> 3);
    *bytes = {};
    switch (tag > UINT32_MAX ? 7 : tag & 7) {
      case 0:
        value_ = varint();
        break;
      case 1:
        *bytes = take(8);
        break;
      case 2:
        *bytes = take(varint());
        break;
      case 5:
        *bytes = take(4);
        break;
      default:
        fail_input("a field of kind {} is in it", tag & 7);
    }
    return true;
  }
  uint64_t value() const { return value_; }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail_input("it ends within a field");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = uint8_t(take(1)[0]);
      value |= uint64_t(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail_input("a number in it has no end");
  }

  std::string_view rest_;
  uint64_t value_ = 0;
};

}  // namespace forja
