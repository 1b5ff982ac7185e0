// SPDX-License-Identifier: Apache-2.0
// The shards of a checkpoint, opened when first read.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/checkpoint/manifest.h"
#include "forja/checkpoint/safetensors.h"

namespace forja {

class CheckpointReader {
 public:
  // Reads the manifest, and nothing else.
  explicit CheckpointReader(std::string path);

  struct Stored {
    size_t shard;
    const StoredTensor* tensor;
  };
  // The parts of every tensor.
  const std::map<std::string, std::vector<Stored>>& tensors() const { return tensors_; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

  // A view of the elements of a part, flat, of which those from `begin` to `end` are soon needed.
  // verify() comes before the use of any.
  Tensor view(const Stored& stored, int64_t begin, int64_t end);
  // Reads the pieces that hold elements [begin, end) of a part, if they have not been. Throws
  // bad_input, naming the file, where one is damaged.
  void verify(const Stored& stored, int64_t begin, int64_t end);
  // All of a part, verified.
  Tensor read(const Stored& stored);
  // Gives back the memory of a part that has been read.
  void release(const Stored& stored) { file(stored.shard).release(stored.tensor->name); }
  // Throw where a shard is missing, or not what the manifest says.
  void open_all();
  void open(const Stored& stored) { file(stored.shard); }

 private:
  const SafetensorsFile& file(size_t shard);

  std::string path_;
  Manifest manifest_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;  // by shard; null: not opened yet
  std::map<std::string, std::vector<Stored>> tensors_;
  std::map<const StoredTensor*, std::vector<bool>> verified_;  // by piece
};

}  // namespace forja
