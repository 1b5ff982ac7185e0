// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <set>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/json.h"
#include "forja/data/dataset.h"

namespace forja {
namespace {

constexpr const char* kFormat = "forja-dataset";

uint64_t parse_hash(const std::string& text) {
  uint64_t hash = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, hash, 16);
  if (text.size() != 16 || error != std::errc() || at != end)
    fail_input("{} is not a hash of 16 hexadecimal digits", shown(text));
  return hash;
}

int64_t parse_count(const nlohmann::json& object, const char* key, int64_t most = kMostInFile) {
  return json_integer(object.at(key), fmt::format("\"{}\"", key), 0, most);
}

// Of the documents of version 2.
constexpr const char* kSamples = "samples";
constexpr const char* kPreferencePairs = "preference pairs";

DatasetKind parse_kind(const nlohmann::json& kind) {
  if (kind == kSamples) return DatasetKind::samples;
  if (kind == kPreferencePairs) return DatasetKind::preference_pairs;
  fail_input("\"documents\" is {}, expected {} or {}", shown(kind), kSamples, kPreferencePairs);
}

ShardInfo parse_shard(const nlohmann::json& s, bool has_masks) {
  ShardInfo shard{s.at("name").get<std::string>(), parse_count(s, "num_tokens"),
                  parse_count(s, "num_documents"), parse_hash(s.at("tokens_hash")),
                  parse_hash(s.at("documents_hash"))};
  if (has_masks) shard.learned_hash = parse_hash(s.at("learned_hash"));
  if (!is_file_name(shard.name))
    fail_input("the shard name {} is no name of a file beside it", shown(s.at("name")));
  return shard;
}

DatasetInfo parse_fields(const nlohmann::json& j, int64_t version) {
  DatasetInfo info;
  if (version > 1) info.kind = parse_kind(j.at("documents"));
  const auto& dtype = j.at("dtype").get_ref<const std::string&>();
  if (dtype != dtype_name(DType::u16) && dtype != dtype_name(DType::i32)) {
    fail_input("\"dtype\" is {}, expected {} or {}", shown(j.at("dtype")), dtype_name(DType::u16),
               dtype_name(DType::i32));
  }
  info.dtype = dtype == dtype_name(DType::u16) ? DType::u16 : DType::i32;
  info.num_tokens = parse_count(j, "num_tokens");
  info.num_documents = parse_count(j, "num_documents");
  info.num_text_bytes = parse_count(j, "num_text_bytes");
  if (info.has_masks()) {
    info.num_learned = parse_count(j, "num_learned", info.num_tokens);
    info.num_left_out = parse_count(j, "num_left_out");
  }
  if (info.kind == DatasetKind::preference_pairs && info.num_documents % 2 != 0)
    fail_input("{} documents are no pairs", info.num_documents);
  const nlohmann::json& tokenizer = j.at("tokenizer");
  info.vocab_size = parse_count(tokenizer, "vocab_size", INT32_MAX);
  info.eos_id = int32_t(parse_count(j, "eos_id", info.vocab_size - 1));
  info.tokenizer_hash = parse_hash(tokenizer.at("hash"));
  info.tokenizer_kind = tokenizer.at("kind").get<std::string>();
  int64_t tokens = 0, documents = 0;
  std::set<std::string> names;
  for (const nlohmann::json& s : j.at("shards")) {
    info.shards.push_back(parse_shard(s, info.has_masks()));
    const ShardInfo& shard = info.shards.back();
    if (!names.insert(shard.name).second) fail_input("the shard {} is there twice", shard.name);
    // Before they are added: the sums do not overflow.
    if (shard.num_tokens > info.num_tokens - tokens ||
        shard.num_documents > info.num_documents - documents)
      fail_input("the shards hold more tokens or documents, the manifest says {} in {}",
                 info.num_tokens, info.num_documents);
    tokens += shard.num_tokens;
    documents += shard.num_documents;
  }
  if (tokens != info.num_tokens || documents != info.num_documents) {
    fail_input("the shards hold {} tokens in {} documents, the manifest says {} in {}", tokens,
               documents, info.num_tokens, info.num_documents);
  }
  return info;
}

}  // namespace

DType token_dtype(int64_t vocab_size) { return vocab_size <= 65536 ? DType::u16 : DType::i32; }

std::string print_manifest(const DatasetInfo& info) {
  nlohmann::ordered_json j = {{"format", kFormat}, {"version", info.has_masks() ? 2 : 1}};
  if (info.has_masks())
    j["documents"] = info.kind == DatasetKind::samples ? kSamples : kPreferencePairs;
  j["dtype"] = dtype_name(info.dtype);
  j["num_tokens"] = info.num_tokens;
  j["num_documents"] = info.num_documents;
  j["num_text_bytes"] = info.num_text_bytes;
  if (info.has_masks()) {
    j["num_learned"] = info.num_learned;
    j["num_left_out"] = info.num_left_out;
  }
  j["eos_id"] = info.eos_id;
  j["tokenizer"] = {{"kind", info.tokenizer_kind},
                    {"vocab_size", info.vocab_size},
                    {"hash", hash_hex(info.tokenizer_hash)}};
  j["shards"] = nlohmann::ordered_json::array();
  for (const ShardInfo& shard : info.shards) {
    nlohmann::ordered_json s = {{"name", shard.name},
                                {"num_tokens", shard.num_tokens},
                                {"num_documents", shard.num_documents},
                                {"tokens_hash", hash_hex(shard.tokens_hash)},
                                {"documents_hash", hash_hex(shard.documents_hash)}};
    if (info.has_masks()) s["learned_hash"] = hash_hex(shard.learned_hash);
    j["shards"].push_back(std::move(s));
  }
  return j.dump(2) + "\n";
}

DatasetInfo parse_manifest(std::string_view text, const std::string& path) {
  nlohmann::json j;
  try {
    j = parse_json(text, JsonKeys::once);
  } catch (const Error& e) {
    fail_input("{}: damaged manifest: {}", path, e.what());
  }
  try {
    if (!j.is_object() || j.value("format", std::string()) != kFormat) {
      fail_input("not the manifest of a dataset (no \"format\": \"{}\")", kFormat);
    }
    const int64_t version = json_integer(j.at("version"), "\"version\"");
    if (version < 1 || version > kDatasetVersion) {
      fail_input("dataset format version {}, this Forja reads 1 to {}; tokenize the texts again",
                 version, kDatasetVersion);
    }
    return parse_fields(j, version);
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: damaged manifest: {}", path, e.what());
  } catch (const Error& e) {
    fail_input("{}: {}", path, e.what());
  }
}

}  // namespace forja
