// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/text.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kFormatVersion = 1;

std::string shard_name(int rank) { return fmt::format("shard-{:05}.safetensors", rank); }

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// Rank r writes the parameters that begin in the r-th part of all elements.
NamedTensors share_of(const ParameterStore& store, int rank, int size) {
  NamedTensors out;
  const int64_t total = std::max<int64_t>(store.num_parameters(), 1);
  int64_t at = 0;
  for (const auto& p : store.all()) {
    const int owner = int(at * size / total);
    at += p->spec.num_elements();
    if (owner != rank) continue;
    out.emplace_back("model/" + p->spec.name, p->master);
    if (!p->spec.trainable) continue;
    out.emplace_back("first_moment/" + p->spec.name, p->first_moment);
    out.emplace_back("second_moment/" + p->spec.name, p->second_moment);
  }
  return out;
}

Json describe_tensors(const NamedTensors& tensors) {
  Json list = Json::array();
  for (const auto& [name, t] : tensors) {
    list.push_back({{"name", name},
                    {"dtype", std::string(dtype_name(t.dtype))},
                    {"shape", std::vector<int64_t>(t.sizes.begin(), t.sizes.begin() + t.rank)},
                    {"xxh3", hash_hex(hash_bytes(t.data, t.num_bytes()))}});
  }
  return list;
}

void write_shard(const std::string& folder, const ParameterStore& store, int rank, int size) {
  const NamedTensors tensors = share_of(store, rank, size);
  write_safetensors(folder + "/" + shard_name(rank), tensors, {{"format", "forja"}});
  write_file(fmt::format("{}/shard-{:05}.json", folder, rank), describe_tensors(tensors).dump());
}

void write_manifest(const std::string& folder, const TrainState& state,
                    const std::string& config_yaml, int size) {
  Json manifest = {{"format", "forja-checkpoint"}, {"format_version", kFormatVersion}};
  manifest["state"] = {{"step", state.step},
                       {"samples", state.samples},
                       {"tokens", state.tokens},
                       {"num_updates", state.num_updates},
                       {"seed", state.seed}};
  manifest["shards"] = Json::array();
  for (int r = 0; r < size; ++r) {
    const std::string list = fmt::format("{}/shard-{:05}.json", folder, r);
    manifest["shards"].push_back({{"file", shard_name(r)},
                                  {"bytes", int64_t(fs::file_size(folder + "/" + shard_name(r)))},
                                  {"tensors", Json::parse(read_file(list))}});
    fs::remove(list);
  }
  write_file(folder + "/config.yaml", config_yaml);
  write_file(folder + "/manifest.json", manifest.dump(1));
  sync_directory(folder);
}

// Runs `body`; afterwards every rank throws when one of them failed, with the message of the first
// that did.
void agree(Communicator& group, const std::function<void()>& body) {
  std::string message;
  try {
    body();
  } catch (const std::exception& e) {
    message = e.what();
  }
  const int64_t nobody = group.size();
  int64_t failed = message.empty() ? nobody : group.rank();
  const CommLabel label{"checkpoint agreement"};
  group.all_reduce(make_tensor(&failed, DType::i64, {1}), ReduceOp::min, label).wait();
  if (failed == nobody) return;
  std::array<char, 1024> text{};
  if (failed == group.rank()) message.copy(text.data(), text.size() - 1);
  group.broadcast(make_tensor(text.data(), DType::u8, {int64_t(text.size())}), int(failed), label)
      .wait();
  fail("{}{}", group.size() > 1 ? fmt::format("rank {}: ", failed) : "", text.data());
}

std::vector<std::string> list_checkpoints(const std::string& directory) {
  std::vector<std::string> out;
  if (!fs::is_directory(directory)) return out;
  for (const auto& item : fs::directory_iterator(directory)) {
    const std::string name = item.path().filename();
    const bool named = name.size() == 13 && name.rfind("step-", 0) == 0 &&
                       name.find_first_not_of("0123456789", 5) == std::string::npos;
    if (named && is_checkpoint(item.path())) out.push_back(item.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Json read_manifest(const std::string& path) {
  const Json manifest = Json::parse(read_file(path + "/manifest.json"), nullptr, false);
  if (manifest.is_discarded() || manifest.value("format", "") != "forja-checkpoint") {
    fail_input("{}/manifest.json is damaged or not of a forja checkpoint", path);
  }
  const int version = manifest.value("format_version", 0);
  if (version > kFormatVersion) {
    fail_input("{} has checkpoint format {}, this binary reads up to {}: use a newer forja", path,
               version, kFormatVersion);
  }
  return manifest;
}

// All shards of a checkpoint, opened and checked against the manifest.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), manifest_(read_manifest(path)) {
    for (const Json& shard : manifest_.at("shards")) {
      const std::string file = path + "/" + shard.at("file").get<std::string>();
      std::error_code error;
      const auto bytes = fs::file_size(file, error);
      if (error || int64_t(bytes) != shard.at("bytes").get<int64_t>()) {
        fail_input("{} is missing or truncated: expected {} bytes, found {}", file,
                   shard.at("bytes").get<int64_t>(), error ? 0 : int64_t(bytes));
      }
      files_.push_back(std::make_unique<SafetensorsFile>(file));
      for (const Json& t : shard.at("tensors")) {
        tensors_[t.at("name")] = {files_.back().get(), t.at("xxh3").get<std::string>()};
      }
    }
  }

  const Json& manifest() const { return manifest_; }
  bool has(const std::string& name) const { return tensors_.count(name) > 0; }
  // The tensor, its checksum verified.
  Tensor read(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail_input("{}: no tensor {}", path_, name);
    const Tensor t = found->second.first->tensor(name);
    const std::string hash = hash_hex(hash_bytes(t.data, t.num_bytes()));
    if (hash != found->second.second) {
      fail_input("{}: tensor {} is damaged: checksum {}, expected {}", found->second.first->path(),
                 name, hash, found->second.second);
    }
    return t;
  }
  const auto& tensors() const { return tensors_; }

 private:
  std::string path_;
  Json manifest_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, std::pair<const SafetensorsFile*, std::string>> tensors_;
};

void load_tensor(const Reader& reader, const std::string& path, const std::string& name,
                 const Tensor& into) {
  const Tensor stored = reader.read(name);
  if (stored.rank != into.rank ||
      !std::equal(stored.sizes.begin(), stored.sizes.begin() + stored.rank, into.sizes.begin())) {
    fail_input("{}: {} is {}, the model wants {}", path, name, stored.to_string(),
               into.to_string());
  }
  FORJA_CHECK(stored.dtype == into.dtype, "{} is {}, {} expected", name, stored.to_string(),
              into.to_string());
  std::memcpy(into.data, stored.data, size_t(stored.num_bytes()));
}

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("step-{:08}", step); }

bool is_checkpoint(const std::string& path) {
  return fs::exists(path + "/manifest.json") && fs::exists(path + "/config.yaml");
}

std::string checkpoint_config(const std::string& path) { return read_file(path + "/config.yaml"); }

std::optional<std::string> latest_checkpoint(const std::string& directory) {
  const auto all = list_checkpoints(directory);
  if (all.empty()) return std::nullopt;
  return all.back();
}

void save_checkpoint(const std::string& directory, const TrainState& state,
                     const ParameterStore& store, const std::string& config_yaml, int64_t keep_last,
                     Communicator& group) {
  const std::string target = directory + "/" + checkpoint_name(state.step),
                    folder = target + ".partial";
  const bool leader = group.rank() == 0;
  try {
    agree(group, [&] {
      if (!leader) return;
      fs::remove_all(folder);
      make_directories(folder);
    });
    agree(group, [&] { write_shard(folder, store, group.rank(), group.size()); });
    agree(group, [&] {
      if (!leader) return;
      write_manifest(folder, state, config_yaml, group.size());
      fs::remove_all(target);
      fs::rename(folder, target);
      sync_directory(directory);
    });
  } catch (...) {
    std::error_code ignored;
    if (leader) fs::remove_all(folder, ignored);
    throw;
  }
  if (!leader || keep_last == 0) return;
  const auto all = list_checkpoints(directory);
  for (int64_t i = 0; i + keep_last < int64_t(all.size()); ++i) {
    std::error_code ignored;
    fs::remove_all(all[size_t(i)], ignored);
  }
}

TrainState load_checkpoint(const Context& ctx, const std::string& path, ParameterStore& store) {
  const Reader reader(path);
  for (const auto& p : store.all()) {
    const std::string name = "model/" + p->spec.name;
    if (store.use() == StoreUse::inference) {
      const Tensor stored = reader.read(name);
      if (stored.num_elements() != p->weight.num_elements()) {
        fail_input("{}: {} is {}, the model wants {}", path, name, stored.to_string(),
                   p->weight.to_string());
      }
      convert(ctx, stored, p->weight);
      continue;
    }
    load_tensor(reader, path, name, p->master);
    if (!p->spec.trainable) continue;
    load_tensor(reader, path, "first_moment/" + p->spec.name, p->first_moment);
    load_tensor(reader, path, "second_moment/" + p->spec.name, p->second_moment);
  }
  store.update_compute_weights(ctx);
  const Json& s = reader.manifest().at("state");
  return {s.at("step"), s.at("samples"), s.at("tokens"), s.at("num_updates"), s.at("seed")};
}

std::string describe_checkpoint(const std::string& path, bool verify) {
  const Reader reader(path);
  const Json& state = reader.manifest().at("state");
  std::string out =
      fmt::format("checkpoint of step {}: {} tokens, {} samples, {} updates, seed {}\n",
                  state.at("step").get<int64_t>(), state.at("tokens").get<int64_t>(),
                  state.at("samples").get<int64_t>(), state.at("num_updates").get<int64_t>(),
                  state.at("seed").get<uint64_t>());
  int64_t bytes = 0, parameters = 0;
  std::string table;
  for (const auto& [name, entry] : reader.tensors()) {
    const SafetensorsEntry& e = entry.first->entry(name);
    bytes += e.end - e.begin;
    if (verify) reader.read(name);
    if (name.rfind("model/", 0) != 0) continue;
    parameters += e.num_elements();
    std::vector<std::string> shape;
    for (int64_t size : e.shape) shape.push_back(std::to_string(size));
    table +=
        fmt::format("  {:<44} {} [{}]\n", name.substr(6), dtype_name(e.dtype), join(shape, ", "));
  }
  out += fmt::format("{} shards, {}, {} parameters{}\n", reader.manifest().at("shards").size(),
                     format_bytes(double(bytes)), parameters,
                     verify ? "; every checksum is right" : "");
  return out + table;
}

}  // namespace forja
