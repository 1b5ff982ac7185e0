// SPDX-License-Identifier: Apache-2.0
#include "forja/data/dataset.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>

#include "forja/base/error.h"
#include "forja/base/hash.h"

namespace forja {

static_assert(std::endian::native == std::endian::little, "datasets are little-endian");

namespace {

// Widens `count` ids to int32; the largest of them (as unsigned).
template <class T>
uint32_t widen(const T* from, int64_t count, int32_t* to) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t id = uint32_t(from[i]);
    largest = std::max(largest, id);
    to[i] = int32_t(id);
  }
  return largest;
}

}  // namespace

Dataset::Dataset(std::string directory) : directory_(std::move(directory)) {
  if (!file_exists(directory_))
    fail_input("there is no dataset {}; make one with forja tokenize", directory_);
  const std::string manifest = directory_ + "/manifest.json";
  if (!file_exists(manifest)) {
    fail_input("{} is not a dataset: it has no manifest.json; make one with forja tokenize",
               directory_);
  }
  info_ = parse_manifest(MappedFile(manifest).text(), manifest);
  int64_t tokens = 0, documents = 0;
  for (const ShardInfo& shard : info_.shards) {
    Shard s;
    s.tokens = map_checked(shard.name + ".tokens", shard.num_tokens * dtype_bytes(info_.dtype));
    s.documents =
        map_checked(shard.name + ".documents", shard.num_documents * int64_t(sizeof(int64_t)));
    if (info_.has_masks()) s.learned = map_checked(shard.name + ".learned", shard.num_tokens);
    s.first_token = tokens;
    s.first_document = documents;
    s.num_tokens = shard.num_tokens;
    s.num_documents = shard.num_documents;
    if (s.num_documents > 0 && s.ends()[s.num_documents - 1] != s.num_tokens) {
      fail_input("{}/{}.documents ends at token {}, expected {}: the file is damaged", directory_,
                 shard.name, s.ends()[s.num_documents - 1], s.num_tokens);
    }
    tokens += shard.num_tokens;
    documents += shard.num_documents;
    shards_.push_back(std::move(s));
  }
}

MappedFile Dataset::map_checked(const std::string& name, int64_t expected_bytes) const {
  MappedFile file(directory_ + "/" + name);
  if (file.size() != expected_bytes) {
    fail_input(
        "{}/{}: expected {} bytes, found {}: the file is truncated or belongs to another dataset",
        directory_, name, expected_bytes, file.size());
  }
  return file;
}

size_t Dataset::shard_of_token(int64_t token) const {
  const auto after = std::upper_bound(shards_.begin(), shards_.end(), token,
                                      [](int64_t t, const Shard& s) { return t < s.first_token; });
  return size_t(after - shards_.begin()) - 1;
}

void Dataset::read(int64_t first, int64_t count, int32_t* tokens) const {
  FORJA_CHECK(first >= 0 && count >= 0 && first + count <= num_tokens(), "tokens [{}, {}) of {}",
              first, first + count, num_tokens());
  for (size_t i = count > 0 ? shard_of_token(first) : 0; count > 0; ++i) {
    const Shard& shard = shards_[i];
    const int64_t offset = first - shard.first_token;
    const int64_t here = std::min(count, shard.num_tokens - offset);
    const uint32_t largest =
        info_.dtype == DType::u16
            ? widen(reinterpret_cast<const uint16_t*>(shard.tokens.data()) + offset, here, tokens)
            : widen(reinterpret_cast<const int32_t*>(shard.tokens.data()) + offset, here, tokens);
    if (here > 0 && int64_t(largest) >= info_.vocab_size) {
      fail_input(
          "{}/{}.tokens holds the id {} among tokens [{}, {}), the vocabulary has {}: the file is "
          "damaged",
          directory_, info_.shards[i].name, largest, offset, offset + here, info_.vocab_size);
    }
    first += here;
    tokens += here;
    count -= here;
  }
}

void Dataset::read_learned(int64_t first, int64_t count, uint8_t* learned) const {
  FORJA_CHECK(info_.has_masks() && first >= 0 && count >= 0 && first + count <= num_tokens(),
              "the mask of tokens [{}, {}) of {}", first, first + count, num_tokens());
  for (size_t i = count > 0 ? shard_of_token(first) : 0; count > 0; ++i) {
    const Shard& shard = shards_[i];
    const int64_t offset = first - shard.first_token;
    const int64_t here = std::min(count, shard.num_tokens - offset);
    const uint8_t* from = shard.learned.data() + offset;
    if (std::any_of(from, from + here, [](uint8_t value) { return value > 1; })) {
      fail_input(
          "{}/{}.learned: expected 0 or 1 for each of the tokens [{}, {}): the file is damaged",
          directory_, info_.shards[i].name, offset, offset + here);
    }
    std::copy(from, from + here, learned);
    first += here;
    learned += here;
    count -= here;
  }
}

void Dataset::prefetch(int64_t first, int64_t count) const {
  const int64_t bytes = dtype_bytes(info_.dtype);
  for (size_t i = count > 0 ? shard_of_token(first) : 0; count > 0; ++i) {
    const Shard& shard = shards_[i];
    const int64_t offset = first - shard.first_token;
    const int64_t here = std::min(count, shard.num_tokens - offset);
    shard.tokens.prefetch(offset * bytes, here * bytes);
    if (info_.has_masks()) shard.learned.prefetch(offset, here);
    first += here;
    count -= here;
  }
}

void Dataset::document_starts(int64_t first, int64_t count, std::vector<int32_t>* starts) const {
  starts->clear();
  const int64_t last = std::min(first + count, num_tokens());
  for (size_t i = first < last ? shard_of_token(first) : shards_.size(); i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    if (shard.first_token >= last) break;
    // The first document of the shard starts at its first token, every other where the one before
    // ends.
    if (shard.num_documents > 0 && shard.first_token >= first)
      starts->push_back(int32_t(shard.first_token - first));
    const int64_t* ends = shard.ends();
    const int64_t* stop = ends + std::max<int64_t>(shard.num_documents - 1, 0);
    const int64_t* at =
        std::lower_bound(ends, stop, std::max<int64_t>(first - shard.first_token, 1));
    for (; at < stop && *at < last - shard.first_token; ++at) {
      const int64_t start = *at > 0 ? shard.first_token + *at - first : -1;
      if (start < 0 || (!starts->empty() && start <= starts->back())) damaged_ends(i);
      starts->push_back(int32_t(start));
    }
  }
}

void Dataset::document_range(int64_t document, int64_t* begin, int64_t* end) const {
  FORJA_CHECK(document >= 0 && document < num_documents(), "document {} of {}", document,
              num_documents());
  const auto after =
      std::upper_bound(shards_.begin(), shards_.end(), document,
                       [](int64_t d, const Shard& s) { return d < s.first_document; });
  const Shard& shard = *(after - 1);
  const int64_t i = document - shard.first_document;
  const int64_t from = i == 0 ? 0 : shard.ends()[i - 1], to = shard.ends()[i];
  if (from < 0 || from >= to || to > shard.num_tokens) damaged_ends(size_t(&shard - &shards_[0]));
  *begin = shard.first_token + from;
  *end = shard.first_token + to;
}

void Dataset::damaged_ends(size_t shard) const {
  fail_input("{}/{}.documents: its documents are not in order: the file is damaged", directory_,
             info_.shards[shard].name);
}

void Dataset::verify() const {
  for (size_t i = 0; i < shards_.size(); ++i) verify_shard(i);
}

void Dataset::verify_shard(size_t i) const {
  const Shard& shard = shards_[i];
  const ShardInfo& info = info_.shards[i];
  const auto check = [&](const char* extension, const MappedFile& file, uint64_t expected) {
    const uint64_t found = hash_bytes(file.data(), file.size());
    if (found != expected) {
      fail_input("{}/{}{}: expected the checksum {}, found {}: the file is damaged", directory_,
                 info.name, extension, hash_hex(expected), hash_hex(found));
    }
  };
  check(".tokens", shard.tokens, info.tokens_hash);
  check(".documents", shard.documents, info.documents_hash);
  if (info_.has_masks()) check(".learned", shard.learned, info.learned_hash);
  for (int64_t d = 0; d < shard.num_documents; ++d) {
    if (shard.ends()[d] <= (d == 0 ? 0 : shard.ends()[d - 1])) {
      fail_input("{}/{}.documents: document {} ends at {}, before it begins", directory_, info.name,
                 d, shard.ends()[d]);
    }
  }
  std::vector<int32_t> tokens(1 << 16);
  std::vector<uint8_t> learned(tokens.size());
  for (int64_t t = 0; t < shard.num_tokens; t += int64_t(tokens.size())) {
    const int64_t count = std::min(int64_t(tokens.size()), shard.num_tokens - t);
    read(shard.first_token + t, count, tokens.data());
    if (info_.has_masks()) read_learned(shard.first_token + t, count, learned.data());
  }
}

bool is_dataset(const std::string& path) {
  const std::string manifest = path + "/manifest.json";
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(manifest, unreadable)) return false;
  try {
    parse_manifest(MappedFile(manifest).text(), manifest);
  } catch (const Error&) {
    return false;
  }
  return true;
}

}  // namespace forja
