// SPDX-License-Identifier: Apache-2.0
// Tensors in one or several safetensors files of a bounded size, written as they come.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "forja/checkpoint/safetensors.h"

namespace forja {

class ShardedWriter {
 public:
  using Name = std::function<std::string(size_t shard, size_t num_shards)>;

  // Files hold up to `max_bytes` of tensors each, or one tensor that is larger.
  ShardedWriter(std::string folder, const std::vector<SafetensorsInfo>& tensors, int64_t max_bytes,
                const Name& name, std::map<std::string, std::string> metadata);

  // The next tensor, as fp32: rounded to nearest where it is to be bf16. Returns a view of what
  // was written, valid until the next call.
  Tensor write(const float* values);
  // Throws unless every tensor was written.
  void finish();

  // Of each file, in order.
  struct Shard {
    std::string name;
    std::vector<SafetensorsInfo> tensors;
  };
  const std::vector<Shard>& shards() const { return shards_; }
  // Which of them holds the tensor that was written last.
  size_t current() const { return shard_; }
  int64_t tensor_bytes() const;

 private:
  std::string folder_;
  std::map<std::string, std::string> metadata_;
  std::vector<Shard> shards_;
  size_t shard_ = 0, tensor_ = 0;  // the next to be written
  std::unique_ptr<SafetensorsWriter> file_;
  std::vector<BFloat16> rounded_;
};

}  // namespace forja
