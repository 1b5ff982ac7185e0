// SPDX-License-Identifier: Apache-2.0
#include "forja/data/dataset_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "forja/base/error.h"
#include "forja/base/hash.h"

namespace forja {
namespace fs = std::filesystem;

namespace {

constexpr size_t kFlushBytes = 4 << 20;

// Whether `directory` may be replaced; throws when it may not.
void check_output(const std::string& directory, Existing existing) {
  if (!fs::exists(directory)) return;
  if (fs::is_directory(directory) && fs::is_empty(directory)) return;
  if (existing == Existing::refuse) {
    fail_input("{} exists already; choose another output, or --overwrite to replace it", directory);
  }
  if (!is_dataset(directory)) fail_input("{} is not a dataset: it is not overwritten", directory);
}

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

uint64_t hash_file(const std::string& path) {
  const MappedFile file(path);
  return hash_bytes(file.data(), file.size());
}

}  // namespace

DatasetWriter::DatasetWriter(std::string directory, const Tokenizer& tokenizer,
                             const std::string& tokenizer_path, int32_t eos_id,
                             DatasetWriterOptions options)
    : directory_(without_trailing_slash(std::move(directory))), options_(options) {
  if (options_.shard_tokens < 1)
    fail_input("a shard of {} tokens: expected 1 or more", options_.shard_tokens);
  check_output(directory_, options_.existing);
  info_.kind = options_.kind;
  info_.vocab_size = tokenizer.vocab_size();
  info_.dtype = token_dtype(info_.vocab_size);
  info_.eos_id = eos_id;
  info_.tokenizer_hash = tokenizer.hash();
  info_.tokenizer_kind = tokenizer.kind();
  const std::string parent = fs::path(directory_).parent_path().string();
  if (!parent.empty()) make_directories(parent);
  temporary_.path = fmt::format("{}.tmp-{}", directory_, ::getpid());
  std::error_code ignored;
  fs::remove_all(temporary_.path, ignored);
  make_directories(temporary_.path);
  if (!tokenizer_path.empty()) copy_tokenizer(tokenizer_path, temporary_.path);
}

DatasetWriter::TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path.empty()) fs::remove_all(path, ignored);
}

void DatasetWriter::begin_shard() {
  ShardInfo shard;
  shard.name = fmt::format("shard-{:05}", info_.shards.size());
  tokens_ = std::make_unique<AtomicFile>(temporary_.path + "/" + shard.name + ".tokens");
  if (info_.has_masks())
    learned_ = std::make_unique<AtomicFile>(temporary_.path + "/" + shard.name + ".learned");
  info_.shards.push_back(shard);
  document_ends_.clear();
}

void DatasetWriter::end_shard() {
  flush();
  tokens_->commit();
  tokens_.reset();
  ShardInfo& shard = info_.shards.back();
  const std::string path = temporary_.path + "/" + shard.name;
  write_file(path + ".documents", {reinterpret_cast<const char*>(document_ends_.data()),
                                   document_ends_.size() * sizeof(int64_t)});
  shard.num_documents = int64_t(document_ends_.size());
  shard.tokens_hash = hash_file(path + ".tokens");
  shard.documents_hash = hash_file(path + ".documents");
  if (!learned_) return;
  learned_->commit();
  learned_.reset();
  shard.learned_hash = hash_file(path + ".learned");
}

void DatasetWriter::append_tokens(const int32_t* ids, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= info_.vocab_size)
      fail("token id {} of a vocabulary of {}", ids[i], info_.vocab_size);
  }
  const size_t before = buffer_.size();
  buffer_.resize(before + size_t(count * dtype_bytes(info_.dtype)));
  if (info_.dtype == DType::u16) {
    auto* out = reinterpret_cast<uint16_t*>(buffer_.data() + before);
    for (int64_t i = 0; i < count; ++i) out[i] = uint16_t(ids[i]);
  } else {
    std::memcpy(buffer_.data() + before, ids, size_t(count) * sizeof(int32_t));
  }
}

void DatasetWriter::flush() {
  tokens_->write(buffer_.data(), int64_t(buffer_.size()));
  buffer_.clear();
  if (learned_) learned_->write(learned_buffer_.data(), int64_t(learned_buffer_.size()));
  learned_buffer_.clear();
}

void DatasetWriter::make_room(int64_t count) {
  if (tokens_ && info_.shards.back().num_tokens + count > options_.shard_tokens) end_shard();
  if (!tokens_) begin_shard();
}

void DatasetWriter::add_document(const int32_t* ids, int64_t count, int64_t text_bytes) {
  FORJA_CHECK(!info_.has_masks(), "a text in a dataset of samples");
  make_room(count + 1);
  append_tokens(ids, count);
  append_tokens(&info_.eos_id, 1);
  end_document(count + 1, text_bytes);
}

void DatasetWriter::add_sample(const int32_t* ids, const uint8_t* learned, int64_t count,
                               int64_t text_bytes) {
  FORJA_CHECK(info_.has_masks() && count > 0, "a sample of {} tokens", count);
  make_room(count);
  append_tokens(ids, count);
  learned_buffer_.insert(learned_buffer_.end(), learned, learned + count);
  info_.num_learned += std::count(learned, learned + count, uint8_t(1));
  end_document(count, text_bytes);
}

void DatasetWriter::end_document(int64_t count, int64_t text_bytes) {
  ShardInfo& shard = info_.shards.back();
  shard.num_tokens += count;
  document_ends_.push_back(shard.num_tokens);
  info_.num_tokens += count;
  info_.num_documents += 1;
  info_.num_text_bytes += text_bytes;
  if (buffer_.size() >= kFlushBytes) flush();
}

DatasetInfo DatasetWriter::commit() {
  if (!tokens_) {
    fail_input("the input holds no {}: no dataset is written to {}",
               info_.has_masks() ? "sample" : "text", directory_);
  }
  end_shard();
  write_file(temporary_.path + "/manifest.json", print_manifest(info_));
  sync_directory(temporary_.path);
  check_output(directory_, options_.existing);
  const std::string old = fmt::format("{}.old-{}", directory_, ::getpid());
  std::error_code error;
  const bool replaces = fs::exists(directory_);
  if (replaces) fs::rename(directory_, old, error);
  if (!error) fs::rename(temporary_.path, directory_, error);
  if (error) fail("cannot give the dataset its name {}: {}", directory_, error.message());
  temporary_.path.clear();
  if (replaces) fs::remove_all(old, error);
  const std::string parent = fs::path(directory_).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
  return info_;
}

}  // namespace forja
