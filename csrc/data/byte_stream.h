// SPDX-License-Identifier: Apache-2.0
// The bytes of a file from front to end, decompressed as its name says (.gz, .zst).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace forja {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Up to `capacity` bytes into `buffer`; 0 at the end. Throws bad_input for damaged or truncated
  // data.
  virtual int64_t read(char* buffer, int64_t capacity) = 0;
  // Bytes of the stored file read so far.
  virtual int64_t stored_bytes_done() const = 0;
};

std::unique_ptr<ByteStream> open_byte_stream(const std::string& path);

}  // namespace forja
