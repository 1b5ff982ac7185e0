// SPDX-License-Identifier: Apache-2.0
#include "csrc/checkpoint/sharded_writer.h"

#include "forja/base/error.h"

namespace forja {

ShardedWriter::ShardedWriter(std::string folder, const std::vector<SafetensorsInfo>& tensors,
                             int64_t max_bytes, const Name& name,
                             std::map<std::string, std::string> metadata)
    : folder_(std::move(folder)), metadata_(std::move(metadata)) {
  int64_t bytes = 0;
  for (const SafetensorsInfo& t : tensors) {
    if (shards_.empty() || bytes + t.num_bytes() > max_bytes) {
      shards_.emplace_back();
      bytes = 0;
    }
    bytes += t.num_bytes();
    shards_.back().tensors.push_back(t);
  }
  for (size_t i = 0; i < shards_.size(); ++i) shards_[i].name = name(i, shards_.size());
}

Tensor ShardedWriter::write(const float* values) {
  if (file_ && tensor_ == shards_[shard_].tensors.size()) {
    file_->commit();
    file_.reset();
    ++shard_;
    tensor_ = 0;
  }
  FORJA_CHECK(shard_ < shards_.size(), "more tensors written than announced");
  const Shard& shard = shards_[shard_];
  if (!file_) {
    file_ =
        std::make_unique<SafetensorsWriter>(folder_ + "/" + shard.name, shard.tensors, metadata_);
  }
  const SafetensorsInfo& info = shard.tensors[tensor_++];
  const int64_t n = info.num_bytes() / dtype_bytes(info.dtype);
  const void* data = values;
  if (info.dtype == DType::bf16) {
    rounded_.resize(size_t(n));
    for (int64_t i = 0; i < n; ++i) rounded_[size_t(i)] = BFloat16(values[i]);
    data = rounded_.data();
  } else {
    FORJA_CHECK(info.dtype == DType::f32, "{} is {}", info.name, dtype_name(info.dtype));
  }
  file_->write(data, info.num_bytes());
  if (info.shape.size() == 2)
    return make_tensor(const_cast<void*>(data), info.dtype, {info.shape[0], info.shape[1]});
  return make_tensor(const_cast<void*>(data), info.dtype, {n});
}

void ShardedWriter::finish() {
  FORJA_CHECK(file_ && shard_ + 1 == shards_.size() && tensor_ == shards_[shard_].tensors.size(),
              "{} of {} files written", shard_, shards_.size());
  file_->commit();
  file_.reset();
}

int64_t ShardedWriter::tensor_bytes() const {
  int64_t bytes = 0;
  for (const Shard& shard : shards_)
    for (const SafetensorsInfo& t : shard.tensors) bytes += t.num_bytes();
  return bytes;
}

}  // namespace forja
