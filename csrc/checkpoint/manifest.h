// SPDX-License-Identifier: Apache-2.0
// The manifest.json of a checkpoint: what is in which shard.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/checkpoint/checkpoint.h"

namespace forja {

int64_t num_elements(const std::vector<int64_t>& shape);

// A checksum is of so many bytes of a tensor, so that who needs a part of it reads that part.
constexpr int64_t kPieceBytes = int64_t(8) << 20;

// XXH3 of each piece.
std::vector<std::string> checksums_of(const void* data, int64_t bytes);

// What a shard has of a state of a parameter: the elements [begin, end) of a block of it.
struct StoredTensor {
  std::string name;  // "model/layers.0.attention.qkv.weight"
  DType dtype = DType::f32;
  std::vector<std::string> checksums;  // of its pieces; before format 3 one, of all bytes
  std::vector<int64_t> shape;          // of the whole parameter
  LocalBlock block;
  int64_t begin = 0, end = 0;

  int64_t num_elements() const { return end - begin; }
  int64_t num_bytes() const { return num_elements() * dtype_bytes(dtype); }
  int64_t piece_bytes() const { return checksums.size() == 1 ? num_bytes() : kPieceBytes; }
  int64_t piece_elements() const { return piece_bytes() / dtype_bytes(dtype); }
  bool is_whole() const;
};

// All of a parameter.
StoredTensor whole_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                          std::vector<std::string> checksums);

// "shard-00003.safetensors".
std::string checkpoint_shard_name(int shard);

struct StoredShard {
  std::string file;  // in the folder of the checkpoint
  int64_t bytes = 0;
  std::vector<StoredTensor> tensors;
};

struct Manifest {
  TrainState state;
  std::vector<StoredShard> shards;

  bool has_moments() const;
  DType moment_dtype() const;  // of all moments
};

nlohmann::ordered_json to_json(const StoredTensor& tensor);
nlohmann::ordered_json to_json(const TrainState& state);

// Writes <folder>/manifest.json; shards are {file, bytes, tensors}, in the order of the ranks.
void write_manifest(const std::string& folder, const TrainState& state,
                    const nlohmann::ordered_json& shards);

// Reads and checks the manifest of the checkpoint at `path`. What it says can then be trusted:
// sizes are those of something that exists on a disk, ranges lie within what they are of, files
// within the folder, and the parts of each tensor cover every element once. Throws bad_input,
// naming the file, where it does not hold, and for a newer format.
Manifest read_manifest(const std::string& path);

}  // namespace forja
