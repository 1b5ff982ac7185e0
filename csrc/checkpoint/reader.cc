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

CheckpointReader::CheckpointReader(std::string path)
    : path_(std::move(path)), manifest_(read_manifest(path_)), files_(manifest_.shards.size()) {
  for (size_t i = 0; i < manifest_.shards.size(); ++i)
    for (const StoredTensor& t : manifest_.shards[i].tensors) tensors_[t.name].push_back({i, &t});
}

const SafetensorsFile& CheckpointReader::file(size_t shard) {
  if (files_[shard]) return *files_[shard];
  const StoredShard& expected = manifest_.shards[shard];
  const std::string name = path_ + "/" + expected.file;
  std::error_code error;
  const auto bytes = fs::file_size(name, error);
  if (error || int64_t(bytes) != expected.bytes) {
    fail_input("{} is missing or truncated: expected {} bytes, found {}", name, expected.bytes,
               error ? 0 : int64_t(bytes));
  }
  auto opened = std::make_unique<SafetensorsFile>(name, Links::refuse);
  for (const StoredTensor& t : expected.tensors) {
    const SafetensorsEntry& entry = opened->entry(t.name);
    if (entry.dtype == t.dtype && entry.num_elements() == t.num_elements()) continue;
    fail_input("{}: {} has {} elements of {}, its manifest says {} of {}", name, t.name,
               entry.num_elements(), dtype_name(entry.dtype), t.num_elements(),
               dtype_name(t.dtype));
  }
  return *(files_[shard] = std::move(opened));
}

void CheckpointReader::open_all() {
  for (size_t i = 0; i < files_.size(); ++i) file(i);
}

Tensor CheckpointReader::view(const Stored& stored, int64_t begin, int64_t end) {
  const SafetensorsFile& from = file(stored.shard);
  const StoredTensor& expected = *stored.tensor;
  const int64_t element = dtype_bytes(expected.dtype);
  from.prefetch(expected.name, begin * element, end * element);
  const Tensor t = from.tensor(expected.name);
  if (reinterpret_cast<uintptr_t>(t.data) % size_t(element) != 0)
    fail_input("{}: tensor {} is not aligned to its elements", from.path(), expected.name);
  return t.view({t.num_elements()});
}

void CheckpointReader::verify(const Stored& stored, int64_t begin, int64_t end) {
  const SafetensorsFile& from = file(stored.shard);
  const StoredTensor& expected = *stored.tensor;
  const int64_t element = dtype_bytes(expected.dtype), piece = expected.piece_bytes();
  std::vector<bool>& verified = verified_[&expected];
  verified.resize(expected.checksums.size());
  for (int64_t i = begin * element / piece; i * piece < end * element; ++i) {
    if (verified[size_t(i)]) continue;
    const auto* const data = static_cast<const uint8_t*>(from.tensor(expected.name).data);
    const int64_t bytes = std::min(piece, expected.num_bytes() - i * piece);
    const std::string hash = hash_hex(hash_bytes(data + i * piece, bytes));
    if (hash != expected.checksums[size_t(i)]) {
      fail_input("{}: tensor {} is damaged: checksum {}, expected {}", from.path(), expected.name,
                 hash, expected.checksums[size_t(i)]);
    }
    verified[size_t(i)] = true;
  }
}

Tensor CheckpointReader::read(const Stored& stored) {
  const Tensor all = view(stored, 0, stored.tensor->num_elements());
  verify(stored, 0, stored.tensor->num_elements());
  return all;
}

}  // namespace forja
