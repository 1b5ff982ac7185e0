// SPDX-License-Identifier: Apache-2.0
// The shards of a checkpoint, opened when first read; and the pieces of their tensors, read ahead.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/checkpoint/manifest.h"
#include "forja/base/read_ahead.h"
#include "forja/checkpoint/safetensors.h"

namespace forja {

class CheckpointReader {
 public:
  // Reads the manifest, and nothing else.
  CheckpointReader(std::string path, PageCache cache);

  struct Stored {
    size_t shard;
    const StoredTensor* tensor;
    bool operator==(const Stored&) const = default;
  };
  // The parts of every tensor.
  const std::map<std::string, std::vector<Stored>>& tensors() const { return tensors_; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

  // Piece `index` of a part will be asked for, after those expected before. Twice in a row is once.
  void expect(const Stored& stored, int64_t index);
  // Its elements, flat, valid until the next call; it has been expected, and those before it are
  // not wanted any more. Throws bad_input, naming the file, where it is damaged.
  Tensor piece(const Stored& stored, int64_t index);
  // Every piece of a part, in order, with the number of its first element in the part.
  void expect_all(const Stored& stored);
  template <class Body>
  void for_each_piece(const Stored& stored, const Body& body);
  // Throw where a shard is missing, or not what the manifest says.
  void open_all();
  void open(const Stored& stored) { shard(stored.shard); }

 private:
  struct Shard {
    std::unique_ptr<SafetensorsFile> header;
    std::unique_ptr<InputFile> data;
  };
  struct Piece {
    Stored stored;
    int64_t index;
    bool operator==(const Piece&) const = default;
  };

  const Shard& shard(size_t index);
  Tensor verified(const Piece& piece, const uint8_t* data) const;

  std::string path_;
  PageCache cache_;
  Manifest manifest_;
  std::vector<Shard> shards_;  // null: not opened yet
  std::map<std::string, std::vector<Stored>> tensors_;
  std::deque<Piece> expected_;  // after that which was asked for last
  std::optional<Piece> current_;
  Tensor current_data_;
  ReadAhead read_ahead_;  // last: it reads the files
};

template <class Body>
void CheckpointReader::for_each_piece(const Stored& stored, const Body& body) {
  const int64_t elements = stored.tensor->piece_elements();
  for (int64_t i = 0; i * elements < stored.tensor->num_elements(); ++i)
    body(piece(stored, i), i * elements);
}

}  // namespace forja
