// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "csrc/checkpoint/checkpoint_files.h"
#include "forja/base/dispatch.h"
#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/text.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// 2: a tensor may be a part of a parameter, with the block it is of.
constexpr int kFormatVersion = 2;

// What a rank writes of a parameter: the local elements [begin, end).
struct Part {
  std::string name;  // "model/layers.0.attention.qkv.weight"
  const Parameter* parameter;
  int64_t begin, end;
  Tensor data;

  bool is_whole() const { return end - begin == parameter->spec.num_elements(); }
};

constexpr std::pair<StateKind, const char*> kStates[] = {
    {StateKind::weight, "model/"},
    {StateKind::first_moment, "first_moment/"},
    {StateKind::second_moment, "second_moment/"}};

// Of what several copies hold, each writes a share: the parameters that begin in its part of all
// elements.
std::vector<Part> parts_to_write(const ParameterStore& store, const CheckpointCopy& copy) {
  std::vector<Part> out;
  int64_t total = 0, at = 0;
  for (const auto& p : store.all()) total += p->block.num_elements();
  for (const auto& p : store.all()) {
    const int owner = int(at * copy.count / std::max<int64_t>(total, 1));
    at += p->block.num_elements();
    if (owner != copy.index) continue;
    int64_t begin = p->end, end = p->begin;
    for (const ParameterRange& range : ranges_of_shard(*p)) {
      if (!range.own) continue;
      FORJA_CHECK(begin >= end || range.begin == end, "{} is in several pieces", p->spec.name);
      begin = std::min(begin, range.begin);
      end = std::max(end, range.end);
    }
    if (begin >= end) continue;
    for (const auto& [kind, prefix] : kStates) {
      Part part{prefix + p->spec.name, p.get(), begin, end,
                shard_of(*p, kind).slice(0, begin - p->begin, end - p->begin)};
      const auto& shape = p->spec.shape;
      if (part.is_whole() && shape.size() == 2) part.data = part.data.view({shape[0], shape[1]});
      out.push_back(part);
    }
  }
  return out;
}

Json describe_block(const Part& part) {
  const LocalBlock& block = part.parameter->block;
  Json rows = Json::array();
  for (const LocalBlock::Rows& r : block.row_ranges) rows.push_back({r.local, r.full, r.count});
  return {{"shape", part.parameter->spec.shape},
          {"rows", rows},
          {"columns", {block.first_column, block.columns}},
          {"range", {part.begin, part.end}}};
}

Json describe_parts(const std::vector<Part>& parts) {
  Json list = Json::array();
  for (const Part& part : parts) {
    list.push_back(describe_stored(part.name, part.data));
    if (!part.is_whole()) list.back()["part_of"] = describe_block(part);
  }
  return list;
}

// Puts the data of the parts into host memory, which the caller keeps; nothing to do on the CPU.
std::unique_ptr<Arena> download(const Context& ctx, std::vector<Part>& parts) {
  if (ctx.device.is_cpu()) return nullptr;
  int64_t bytes = 0;
  for (const Part& part : parts) bytes += part.data.num_bytes() + Arena::kAlignment;
  auto host = std::make_unique<Arena>("checkpoint", Device{}, bytes);
  for (Part& part : parts) {
    void* to = host->allocate(part.data.num_bytes());
    copy_bytes(ctx, to, part.data.data, part.data.num_bytes());
    part.data.data = to;
    part.data.device = {};
  }
  synchronize(ctx);
  return host;
}

void write_shard(const Context& ctx, const std::string& folder, const ParameterStore& store,
                 const CheckpointCopy& copy, int rank) {
  std::vector<Part> parts = parts_to_write(store, copy);
  const std::unique_ptr<Arena> host = download(ctx, parts);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Part& part : parts) tensors.emplace_back(part.name, part.data);
  write_safetensors(folder + "/" + checkpoint_shard_name(rank), tensors, {{"format", "forja"}});
  write_file(folder + "/" + checkpoint_list_name(rank), describe_parts(parts).dump());
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

TrainState state_of(const Json& manifest) {
  const Json& s = manifest.at("state");
  return {s.at("step"), s.at("samples"), s.at("tokens"), s.at("num_updates"), s.at("seed")};
}

// All moments have one dtype.
DType moment_dtype_of(const Json& manifest) {
  for (const Json& shard : manifest.at("shards")) {
    for (const Json& t : shard.at("tensors")) {
      if (t.at("name").get<std::string>().rfind("first_moment/", 0) == 0)
        return t.at("dtype") == dtype_name(DType::bf16) ? DType::bf16 : DType::f32;
    }
  }
  return DType::f32;
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
      for (const Json& t : shard.at("tensors"))
        tensors_[t.at("name")].push_back({files_.back().get(), t});
    }
  }

  const Json& manifest() const { return manifest_; }
  // The full parameter in fp32, its parts put together, their checksums verified; `shape` is what
  // the model wants.
  std::vector<float> read(const std::string& name, const std::vector<int64_t>& shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail_input("{}: no tensor {}", path_, name);
    int64_t size = 1, covered = 0;
    for (int64_t n : shape) size *= n;
    std::vector<float> full(size_t(size), 0.0f);
    for (const Stored& stored : found->second) {
      const std::vector<int64_t> stored_shape = full_shape(stored);
      if (stored_shape != shape) {
        fail_input("{}: {} is {}, the model wants {}", path_, name, shape_text(stored_shape),
                   shape_text(shape));
      }
      const Tensor t = verified(stored);
      for_each_run_of(stored, [&](const ElementRun& run) {
        dispatch_float(t.dtype, [&]<class T>() {
          const T* from = t.ptr<T>() + run.local;
          std::transform(from, from + run.count, full.begin() + run.full,
                         [](T x) { return float(x); });
        });
        covered += run.count;
      });
      stored.file->release(name);
    }
    if (covered != size) {
      fail_input("{}: {} of the {} elements of {} are there", path_, covered, size, name);
    }
    return full;
  }

  struct Stored {
    const SafetensorsFile* file;
    Json entry;
  };
  Tensor verified(const Stored& stored) const {
    const std::string name = stored.entry.at("name"), expected = stored.entry.at("xxh3");
    const Tensor t = stored.file->tensor(name);
    const std::string hash = hash_hex(hash_bytes(t.data, t.num_bytes()));
    if (hash != expected) {
      fail_input("{}: tensor {} is damaged: checksum {}, expected {}", stored.file->path(), name,
                 hash, expected);
    }
    if (t.dtype != DType::f32 && t.dtype != DType::bf16)
      fail_input("{}: {} is neither fp32 nor bf16", stored.file->path(), name);
    return t;
  }
  static std::vector<int64_t> full_shape(const Stored& stored) {
    const Json& entry = stored.entry;
    return entry.contains("part_of") ? entry.at("part_of").at("shape") : entry.at("shape");
  }
  static std::string shape_text(const std::vector<int64_t>& shape) {
    std::vector<std::string> sizes;
    for (int64_t size : shape) sizes.push_back(std::to_string(size));
    return "[" + join(sizes, ", ") + "]";
  }
  const std::map<std::string, std::vector<Stored>>& tensors() const { return tensors_; }
  bool has_moments() const {
    const auto first = tensors_.lower_bound("first_moment/");
    return first != tensors_.end() && first->first.starts_with("first_moment/");
  }

 private:
  // Runs of the stored elements (counted from the first one stored) in the full parameter.
  static void for_each_run_of(const Stored& stored,
                              const std::function<void(const ElementRun&)>& body) {
    const std::vector<int64_t> shape = full_shape(stored);
    if (!stored.entry.contains("part_of")) {
      int64_t n = 1;
      for (int64_t size : shape) n *= size;
      return body({0, 0, n});
    }
    const Json& part = stored.entry.at("part_of");
    LocalBlock block;
    block.full_columns = shape.size() == 2 ? shape[1] : 1;
    block.first_column = part.at("columns").at(0);
    block.columns = part.at("columns").at(1);
    for (const Json& r : part.at("rows")) block.row_ranges.push_back({r.at(0), r.at(1), r.at(2)});
    const int64_t begin = part.at("range").at(0), end = part.at("range").at(1);
    for_each_run(block, begin, end, [&](const ElementRun& run) {
      body({run.local - begin, run.full, run.count});
    });
  }

  std::string path_;
  Json manifest_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, std::vector<Stored>> tensors_;
};

}  // namespace

std::string checkpoint_shard_name(int shard) {
  return fmt::format("shard-{:05}.safetensors", shard);
}

std::string checkpoint_list_name(int shard) { return fmt::format("shard-{:05}.json", shard); }

Json describe_stored(const std::string& name, const Tensor& t) {
  return {{"name", name},
          {"dtype", std::string(dtype_name(t.dtype))},
          {"shape", std::vector<int64_t>(t.sizes.begin(), t.sizes.begin() + t.rank)},
          {"xxh3", hash_hex(hash_bytes(t.data, t.num_bytes()))}};
}

void write_manifest(const std::string& folder, const TrainState& state,
                    const std::string& config_yaml, int num_shards) {
  Json manifest = {{"format", "forja-checkpoint"}, {"format_version", kFormatVersion}};
  manifest["state"] = {{"step", state.step},
                       {"samples", state.samples},
                       {"tokens", state.tokens},
                       {"num_updates", state.num_updates},
                       {"seed", state.seed}};
  manifest["shards"] = Json::array();
  for (int r = 0; r < num_shards; ++r) {
    const std::string file = checkpoint_shard_name(r),
                      list = folder + "/" + checkpoint_list_name(r);
    manifest["shards"].push_back({{"file", file},
                                  {"bytes", int64_t(fs::file_size(folder + "/" + file))},
                                  {"tensors", Json::parse(read_file(list))}});
    fs::remove(list);
  }
  write_file(folder + "/config.yaml", config_yaml);
  write_file(folder + "/manifest.json", manifest.dump(1));
  sync_directory(folder);
}

std::string checkpoint_name(int64_t step) { return fmt::format("step-{:08}", step); }

bool is_checkpoint(const std::string& path) {
  return fs::exists(path + "/manifest.json") && fs::exists(path + "/config.yaml");
}

std::string checkpoint_config(const std::string& path) { return read_file(path + "/config.yaml"); }

std::vector<std::string> list_checkpoints(const std::string& directory) {
  std::vector<std::string> out;
  if (!fs::is_directory(directory)) return out;
  for (const auto& item : fs::directory_iterator(directory)) {
    const std::string name = item.path().filename();
    const bool named = name.size() == 13 && name.rfind("step-", 0) == 0 &&
                       name.find_first_not_of("0123456789", 5) == std::string::npos;
    if (named && is_checkpoint(item.path())) out.push_back(item.path());
  }
  std::sort(out.rbegin(), out.rend());
  return out;
}

std::optional<std::string> latest_checkpoint(const std::string& directory) {
  const auto all = list_checkpoints(directory);
  if (all.empty()) return std::nullopt;
  return all.front();
}

void save_checkpoint(const Context& ctx, const std::string& directory, const TrainState& state,
                     const ParameterStore& store, const CheckpointCopy& copy,
                     const std::string& config_yaml, int64_t keep_last, Communicator& group) {
  const std::string target = directory + "/" + checkpoint_name(state.step),
                    folder = target + ".partial";
  const bool leader = group.rank() == 0;
  try {
    agree(group, [&] {
      if (!leader) return;
      fs::remove_all(folder);
      make_directories(folder);
    });
    agree(group, [&] { write_shard(ctx, folder, store, copy, group.rank()); });
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
  for (size_t i = size_t(keep_last); i < all.size(); ++i) {
    std::error_code ignored;
    fs::remove_all(all[i], ignored);
  }
}

TrainState load_checkpoint(const Context& ctx, const std::string& path, ParameterStore& store,
                           CheckpointUse use) {
  const Reader reader(path);
  if (use == CheckpointUse::training && !reader.has_moments()) {
    fail_input(
        "{} holds weights without the optimizer's moments (forja convert made it): give it "
        "as init.from",
        path);
  }
  for (const auto& p : store.all()) {
    for (const auto& [kind, prefix] : kStates) {
      if (use == CheckpointUse::weights && kind != StateKind::weight) continue;
      set_from_full(ctx, *p, kind, reader.read(prefix + p->spec.name, p->spec.shape).data());
    }
  }
  store.update_compute_weights(ctx);
  return state_of(reader.manifest());
}

class CheckpointWeights::Files : public Reader {
  using Reader::Reader;
};

CheckpointWeights::CheckpointWeights(const std::string& path)
    : files_(std::make_unique<Files>(path)) {}
CheckpointWeights::~CheckpointWeights() = default;

std::vector<float> CheckpointWeights::read(const std::string& parameter,
                                           const std::vector<int64_t>& shape) const {
  return files_->read("model/" + parameter, shape);
}

DType CheckpointWeights::dtype(const std::string& parameter) const {
  const auto found = files_->tensors().find("model/" + parameter);
  if (found == files_->tensors().end()) return DType::f32;  // read() says that it is missing
  return found->second[0].entry.at("dtype") == dtype_name(DType::bf16) ? DType::bf16 : DType::f32;
}

std::vector<std::string> CheckpointWeights::names() const {
  std::vector<std::string> out;
  for (const auto& [name, parts] : files_->tensors())
    if (name.starts_with("model/")) out.push_back(name.substr(6));
  return out;
}

TrainState read_checkpoint_state(const std::string& path) { return state_of(read_manifest(path)); }

DType checkpoint_moment_dtype(const std::string& path) {
  return moment_dtype_of(read_manifest(path));
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
  for (const auto& [name, parts] : reader.tensors()) {
    for (const auto& stored : parts) {
      const SafetensorsEntry& e = stored.file->entry(name);
      bytes += e.end - e.begin;
      if (verify) reader.verified(stored);
      if (verify) stored.file->release(name);
    }
    if (name.rfind("model/", 0) != 0) continue;
    const std::vector<int64_t> shape = Reader::full_shape(parts[0]);
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    parameters += n;
    table += fmt::format("  {:<44} {} {}{}\n", name.substr(6),
                         dtype_name(parts[0].file->entry(name).dtype), Reader::shape_text(shape),
                         parts.size() > 1 ? fmt::format(" in {} parts", parts.size()) : "");
  }
  const std::string_view moments =
      reader.has_moments() ? dtype_name(moment_dtype_of(reader.manifest())) : "no";
  out += fmt::format("{} shards, {}, {} moments, {} parameters{}\n",
                     reader.manifest().at("shards").size(), format_bytes(double(bytes)), moments,
                     parameters, verify ? "; every checksum is right" : "");
  return out + table;
}

}  // namespace forja
