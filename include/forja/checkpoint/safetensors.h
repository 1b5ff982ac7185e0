// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes of header length, a JSON header, then the data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "forja/base/file.h"
#include "forja/base/large_file.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct SafetensorsEntry {
  DType dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // byte range in the data part

  int64_t num_elements() const;
};

// A memory-mapped file. Throws bad_input for a file that is truncated or no safetensors file, and
// where two tensors have the same name or bytes.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path, Links links = Links::follow);

  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return entries_.count(name) > 0; }
  // Throws bad_input, naming the file, where the tensor is missing.
  const SafetensorsEntry& entry(const std::string& name) const;
  // A read-only view of the mapped bytes (up to rank 5); lives as long as this object.
  Tensor tensor(const std::string& name) const;
  // Where its bytes begin in the file.
  int64_t offset(const std::string& name) const { return data_begin_ + entry(name).begin; }
  // Gives back the memory of a tensor that has been read; it can be read again, from the disk.
  void release(const std::string& name) const;
  const std::string& path() const { return path_; }

 private:
  void read_header(std::string_view text);
  void check_overlaps() const;

  std::string path_;
  MappedFile file_;
  int64_t data_begin_ = 0;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// What a file will hold, known before its data.
struct SafetensorsInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;

  int64_t num_bytes() const;
};

SafetensorsInfo safetensors_info(const std::string& name, const Tensor& tensor);

// Writes a file tensor by tensor, beside its name; without commit() nothing stays.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<SafetensorsInfo>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  // The bytes of the tensors, in the order given to the constructor.
  void write(const void* data, int64_t bytes) { file_.write(data, bytes); }
  void commit();
  int64_t bytes_written() const { return file_.bytes_written(); }

 private:
  LargeFile file_;
  int64_t total_bytes_ = 0;  // header included
};

// Writes a whole file atomically: tensors in the order given, contiguous host memory.
void write_safetensors(const std::string& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// Elements of a contiguous tensor of any float dtype as fp32; `out` has num_elements.
void read_as_float(const Tensor& in, float* out);

}  // namespace forja
