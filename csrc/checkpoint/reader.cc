// SPDX-License-Identifier: Apache-2.0
#include "csrc/checkpoint/reader.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "forja/base/error.h"
#include "forja/base/hash.h"

namespace forja {
namespace fs = std::filesystem;

CheckpointReader::CheckpointReader(std::string path, PageCache cache)
    : path_(std::move(path)),
      cache_(cache),
      manifest_(read_manifest(path_)),
      shards_(manifest_.shards.size()) {
  for (size_t i = 0; i < manifest_.shards.size(); ++i)
    for (const StoredTensor& t : manifest_.shards[i].tensors) tensors_[t.name].push_back({i, &t});
}

const CheckpointReader::Shard& CheckpointReader::shard(size_t index) {
  if (shards_[index].header) return shards_[index];
  const StoredShard& expected = manifest_.shards[index];
  const std::string name = path_ + "/" + expected.file;
  std::error_code error;
  const auto bytes = fs::file_size(name, error);
  if (error || int64_t(bytes) != expected.bytes) {
    fail_input("{} is missing or truncated: expected {} bytes, found {}", name, expected.bytes,
               error ? 0 : int64_t(bytes));
  }
  auto header = std::make_unique<SafetensorsFile>(name, Links::refuse);
  for (const StoredTensor& t : expected.tensors) {
    const SafetensorsEntry& entry = header->entry(t.name);
    if (entry.dtype != t.dtype || entry.num_elements() != t.num_elements()) {
      fail_input("{}: {} has {} elements of {}, its manifest says {} of {}", name, t.name,
                 entry.num_elements(), dtype_name(entry.dtype), t.num_elements(),
                 dtype_name(t.dtype));
    }
    if (header->offset(t.name) % dtype_bytes(t.dtype) != 0)
      fail_input("{}: tensor {} is not aligned to its elements", name, t.name);
  }
  shards_[index].data = std::make_unique<InputFile>(name, cache_, Links::refuse);
  shards_[index].header = std::move(header);
  return shards_[index];
}

void CheckpointReader::open_all() {
  for (size_t i = 0; i < shards_.size(); ++i) shard(i);
}

void CheckpointReader::expect(const Stored& stored, int64_t index) {
  const Piece piece{stored, index};
  if (expected_.empty() ? current_ == piece : expected_.back() == piece) return;
  const Shard& from = shard(stored.shard);
  const StoredTensor& t = *stored.tensor;
  const int64_t begin = index * t.piece_bytes();
  read_ahead_.expect({from.data.get(), from.header->offset(t.name) + begin,
                      std::min(t.piece_bytes(), t.num_bytes() - begin)});
  expected_.push_back(piece);
}

Tensor CheckpointReader::piece(const Stored& stored, int64_t index) {
  const Piece wanted{stored, index};
  while (current_ != wanted) {
    FORJA_CHECK(!expected_.empty(), "piece {} of {} is not expected", index, stored.tensor->name);
    current_.reset();
    const Piece next = expected_.front();
    expected_.pop_front();
    const uint8_t* const data = read_ahead_.next();
    if (next != wanted) continue;
    current_data_ = verified(next, data);
    current_ = next;
  }
  return current_data_;
}

void CheckpointReader::expect_all(const Stored& stored) {
  const StoredTensor& t = *stored.tensor;
  for (int64_t i = 0; i * t.piece_elements() < t.num_elements(); ++i) expect(stored, i);
}

Tensor CheckpointReader::verified(const Piece& piece, const uint8_t* data) const {
  const StoredTensor& t = *piece.stored.tensor;
  const int64_t first = piece.index * t.piece_elements(),
                elements = std::min(t.piece_elements(), t.num_elements() - first);
  const std::string& expected = t.checksums[size_t(piece.index)];
  const std::string hash = hash_hex(hash_bytes(data, elements * dtype_bytes(t.dtype)));
  if (hash != expected) {
    fail_input("{}: tensor {} is damaged: checksum {}, expected {}",
               shards_[piece.stored.shard].header->path(), t.name, hash, expected);
  }
  return make_tensor(const_cast<uint8_t*>(data), t.dtype, {elements});
}

}  // namespace forja
