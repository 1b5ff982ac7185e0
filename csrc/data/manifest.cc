// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/data/dataset.h"

namespace forja {
namespace {

constexpr const char* kFormat = "forja-dataset";

uint64_t parse_hash(const std::string& text) {
  char* end = nullptr;
  const uint64_t hash = std::strtoull(text.c_str(), &end, 16);
  if (text.size() != 16 || *end != '\0')
    fail_input("\"{}\" is not a hash of 16 hexadecimal digits", text);
  return hash;
}

int64_t parse_count(const nlohmann::json& object, const char* key) {
  const int64_t value = object.at(key).get<int64_t>();
  if (value < 0) fail_input("\"{}\" is {}", key, value);
  return value;
}

DatasetInfo parse_fields(const nlohmann::json& j) {
  DatasetInfo info;
  const auto& dtype = j.at("dtype").get_ref<const std::string&>();
  if (dtype != dtype_name(DType::u16) && dtype != dtype_name(DType::i32)) {
    fail_input("\"dtype\" is \"{}\", expected {} or {}", dtype, dtype_name(DType::u16),
               dtype_name(DType::i32));
  }
  info.dtype = dtype == dtype_name(DType::u16) ? DType::u16 : DType::i32;
  info.num_tokens = parse_count(j, "num_tokens");
  info.num_documents = parse_count(j, "num_documents");
  info.num_text_bytes = parse_count(j, "num_text_bytes");
  info.eos_id = int32_t(parse_count(j, "eos_id"));
  const nlohmann::json& tokenizer = j.at("tokenizer");
  info.vocab_size = parse_count(tokenizer, "vocab_size");
  info.tokenizer_hash = parse_hash(tokenizer.at("hash"));
  info.tokenizer_kind = tokenizer.at("kind").get<std::string>();
  int64_t tokens = 0, documents = 0;
  for (const nlohmann::json& s : j.at("shards")) {
    ShardInfo shard{s.at("name").get<std::string>(), parse_count(s, "num_tokens"),
                    parse_count(s, "num_documents"), parse_hash(s.at("tokens_hash")),
                    parse_hash(s.at("documents_hash"))};
    if (shard.name.find('/') != shard.name.npos)
      fail_input("the shard name \"{}\" holds a slash", shard.name);
    tokens += shard.num_tokens;
    documents += shard.num_documents;
    info.shards.push_back(std::move(shard));
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
  nlohmann::ordered_json j = {{"format", kFormat},
                              {"version", kDatasetVersion},
                              {"dtype", dtype_name(info.dtype)},
                              {"num_tokens", info.num_tokens},
                              {"num_documents", info.num_documents},
                              {"num_text_bytes", info.num_text_bytes},
                              {"eos_id", info.eos_id},
                              {"tokenizer",
                               {{"kind", info.tokenizer_kind},
                                {"vocab_size", info.vocab_size},
                                {"hash", hash_hex(info.tokenizer_hash)}}},
                              {"shards", nlohmann::ordered_json::array()}};
  for (const ShardInfo& shard : info.shards) {
    j["shards"].push_back({{"name", shard.name},
                           {"num_tokens", shard.num_tokens},
                           {"num_documents", shard.num_documents},
                           {"tokens_hash", hash_hex(shard.tokens_hash)},
                           {"documents_hash", hash_hex(shard.documents_hash)}});
  }
  return j.dump(2) + "\n";
}

DatasetInfo parse_manifest(std::string_view text, const std::string& path) {
  try {
    const nlohmann::json j = nlohmann::json::parse(text);
    if (!j.is_object() || j.value("format", std::string()) != kFormat) {
      fail_input("not the manifest of a dataset (no \"format\": \"{}\")", kFormat);
    }
    const int64_t version = j.at("version").get<int64_t>();
    if (version != kDatasetVersion) {
      fail_input("dataset format version {}, this Forja reads {}; tokenize the texts again",
                 version, kDatasetVersion);
    }
    return parse_fields(j);
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: damaged manifest: {}", path, e.what());
  } catch (const Error& e) {
    fail_input("{}: {}", path, e.what());
  }
}

}  // namespace forja
