// SPDX-License-Identifier: Apache-2.0
#include "csrc/checkpoint/manifest.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/json.h"

namespace forja {
namespace {
using Json = nlohmann::json;                 // an ordered one takes quadratic time for many keys
using OrderedJson = nlohmann::ordered_json;  // as it is written

// 2: a tensor may be a part of a parameter, with the block it is of.
constexpr int kFormatVersion = 3;
int64_t product(int64_t a, int64_t b, const char* what) {
  if (b > 0 && a > kMostInFile / b) fail_input("{} x {} {} are too many", a, b, what);
  return a * b;
}

const Json& list(const Json& json, const char* what, size_t least, size_t most) {
  if (!json.is_array() || json.size() < least || json.size() > most)
    fail_input("{} is {}, expected a list of {}..{} items", what, shown(json), least, most);
  return json;
}

std::vector<int64_t> shape_of(const Json& json) {
  std::vector<int64_t> out;
  int64_t elements = 1;
  for (const Json& size : list(json, "a shape", 1, 2)) {
    out.push_back(json_integer(size, "a size", 1));
    elements = product(elements, out.back(), "elements");
  }
  return out;
}

LocalBlock whole_block(const std::vector<int64_t>& shape) {
  LocalBlock block;
  block.row_ranges = {{0, 0, shape[0]}};
  block.rows = shape[0];
  block.columns = block.full_columns = shape.size() == 2 ? shape[1] : 1;
  return block;
}

LocalBlock parse_block(const Json& part, const std::vector<int64_t>& shape) {
  LocalBlock block = whole_block(shape);
  const Json& columns = list(part.at("columns"), "columns", 2, 2);
  block.first_column = json_integer(columns[0], "a first column", 0, block.full_columns - 1);
  block.columns =
      json_integer(columns[1], "a number of columns", 1, block.full_columns - block.first_column);
  block.row_ranges.clear();
  block.rows = 0;
  int64_t full_end = 0;
  for (const Json& range : list(part.at("rows"), "rows", 1, size_t(kMostInFile))) {
    list(range, "a range of rows", 3, 3);
    // In order, so that none is there twice and runs follow one another.
    const LocalBlock::Rows rows{json_integer(range[0], "a row of the block", block.rows),
                                json_integer(range[1], "a row", full_end, shape[0] - 1),
                                json_integer(range[2], "a number of rows", 1)};
    block.rows = rows.local + rows.count;
    full_end = rows.full + rows.count;
    if (full_end > shape[0]) fail_input("row {} of {} is not there", full_end - 1, shape[0]);
    block.row_ranges.push_back(rows);
  }
  product(block.rows, block.columns, "elements");
  return block;
}

std::vector<std::string> parse_checksums(const Json& json, const StoredTensor& t) {
  if (json.is_string()) return {json.get<std::string>()};
  const size_t pieces = size_t((t.num_bytes() + kPieceBytes - 1) / kPieceBytes);
  std::vector<std::string> out;
  for (const Json& checksum : list(json, "xxh3", pieces, pieces))
    out.push_back(checksum.get<std::string>());
  return out;
}

StoredTensor parse_tensor(const Json& json) {
  StoredTensor t;
  t.name = json.at("name").get<std::string>();
  const std::string dtype = json.at("dtype").get<std::string>();
  t.dtype = dtype == dtype_name(DType::bf16) ? DType::bf16 : DType::f32;
  if (dtype != dtype_name(t.dtype)) fail_input("{} is {}, neither fp32 nor bf16", t.name, dtype);
  const std::vector<int64_t> stored = shape_of(json.at("shape"));
  if (!json.contains("part_of")) {
    t.shape = stored;
    t.block = whole_block(stored);
    t.end = num_elements(stored);
    t.checksums = parse_checksums(json.at("xxh3"), t);
    return t;
  }
  const Json& part = json.at("part_of");
  t.shape = shape_of(part.at("shape"));
  t.block = parse_block(part, t.shape);
  const Json& range = list(part.at("range"), "a range", 2, 2);
  t.begin = json_integer(range[0], "where a range begins");
  t.end = json_integer(range[1], "where a range ends", t.begin + 1, t.block.num_elements());
  if (t.num_elements() != num_elements(stored)) {
    fail_input("{}: {} elements are stored of a range of {}", t.name, num_elements(stored),
               t.num_elements());
  }
  t.checksums = parse_checksums(json.at("xxh3"), t);
  return t;
}

StoredShard parse_shard(const Json& json) {
  StoredShard shard;
  shard.file = json.at("file").get<std::string>();
  if (!is_file_name(shard.file))
    fail_input("{} names no file of this folder", shown(json.at("file")));
  shard.bytes = json_integer(json.at("bytes"), "a number of bytes");
  std::set<std::string> names;
  for (const Json& tensor : list(json.at("tensors"), "tensors", 0, size_t(kMostInFile))) {
    shard.tensors.push_back(parse_tensor(tensor));
    const std::string& name = shard.tensors.back().name;
    if (!names.insert(name).second) fail_input("{} is in {} twice", name, shard.file);
  }
  return shard;
}

std::vector<double> numbers(const Json& json, const char* what) {
  std::vector<double> out;
  for (const Json& value : list(json, what, 0, size_t(kMostInFile))) {
    if (!value.is_number()) fail_input("{} has {}, expected numbers", what, shown(value));
    out.push_back(value.get<double>());
  }
  return out;
}

SpikeState parse_spikes(const Json& json) {
  SpikeState spikes;
  spikes.losses = numbers(json.at("losses"), "losses");
  spikes.gradient_norms = numbers(json.at("gradient_norms"), "gradient_norms");
  spikes.began = json_integer(json.at("began"), "began");
  spikes.rollbacks = json_integer(json.at("rollbacks"), "rollbacks");
  spikes.rolled_back_from = json_integer(json.at("rolled_back_from"), "rolled_back_from");
  spikes.rolled_back_to = json_integer(json.at("rolled_back_to"), "rolled_back_to");
  return spikes;
}

TrainState parse_state(const Json& json) {
  TrainState state;
  state.step = json_integer(json.at("step"), "step");
  state.samples = json_integer(json.at("samples"), "samples");
  state.tokens = json_integer(json.at("tokens"), "tokens", 0, INT64_MAX);
  state.num_updates = json_integer(json.at("num_updates"), "num_updates");
  if (!json.at("seed").is_number_unsigned())
    fail_input("seed is {}, expected a number", shown(json.at("seed")));
  state.seed = json.at("seed").get<uint64_t>();
  if (json.contains("spikes")) state.spikes = parse_spikes(json.at("spikes"));
  return state;
}

// ---- Parts of a tensor

// Ends are exclusive.
struct Rectangle {
  int64_t row, end_row, column, end_column;
};

// The elements of a stored part in the whole parameter: whole rows of its block, and at both ends
// of the range perhaps a part of one.
void add_rectangles(const StoredTensor& t, std::vector<Rectangle>& out) {
  const int64_t columns = t.block.columns;
  int64_t found = 0;
  for (const LocalBlock::Rows& range : t.block.row_ranges) {
    int64_t at = std::max(t.begin, range.local * columns);
    const int64_t end = std::min(t.end, (range.local + range.count) * columns);
    while (at < end) {
      const int64_t row = range.full + at / columns - range.local, column = at % columns,
                    rows = column == 0 && end - at >= columns ? (end - at) / columns : 1,
                    width = std::min(columns - column, end - at),
                    first = t.block.first_column + column;
      out.push_back({row, row + rows, first, first + width});
      at += rows * width;
      found += rows * width;
    }
  }
  if (found != t.num_elements())
    fail_input("{}: {} of {} elements lie in no row", t.name, t.num_elements() - found,
               t.num_elements());
}

// Every element of the shape is in one of them, once. A line goes down the rows, and knows the
// columns of the rectangles that it crosses.
void check_cover(const std::string& name, const std::vector<int64_t>& shape,
                 const std::vector<Rectangle>& parts) {
  int64_t covered = 0;
  std::vector<std::tuple<int64_t, bool, size_t>> events;  // row, begins, index: ends come first
  for (size_t i = 0; i < parts.size(); ++i) {
    events.emplace_back(parts[i].row, true, i);
    events.emplace_back(parts[i].end_row, false, i);
  }
  std::sort(events.begin(), events.end());
  std::map<int64_t, int64_t> crossed;  // column -> end_column
  for (const auto& [row, begins, i] : events) {
    if (!begins) {
      crossed.erase(parts[i].column);
      continue;
    }
    const auto next = crossed.lower_bound(parts[i].column);
    const bool overlaps = (next != crossed.end() && next->first < parts[i].end_column) ||
                          (next != crossed.begin() && std::prev(next)->second > parts[i].column);
    if (overlaps) fail_input("parts of {} overlap in row {}", name, row);
    crossed.emplace(parts[i].column, parts[i].end_column);
    // Of parts that do not overlap: no more than the shape has, which does not overflow.
    covered += (parts[i].end_row - row) * (parts[i].end_column - parts[i].column);
  }
  if (covered != num_elements(shape))
    fail_input("{} of the {} elements of {} are there", covered, num_elements(shape), name);
}

void check_parts(const Manifest& manifest) {
  struct Whole {
    const std::vector<int64_t>* shape;
    std::vector<Rectangle> parts;
  };
  std::map<std::string, Whole> tensors;
  for (const StoredShard& shard : manifest.shards) {
    for (const StoredTensor& t : shard.tensors) {
      Whole& whole = tensors.try_emplace(t.name, Whole{&t.shape, {}}).first->second;
      if (*whole.shape != t.shape) fail_input("the parts of {} are of different shapes", t.name);
      add_rectangles(t, whole.parts);
    }
  }
  for (const auto& [name, whole] : tensors) check_cover(name, *whole.shape, whole.parts);
}

Manifest parse_manifest(const Json& json) {
  Manifest manifest;
  manifest.state = parse_state(json.at("state"));
  std::set<std::string> files;
  for (const Json& shard : list(json.at("shards"), "shards", 1, size_t(kMostInFile))) {
    manifest.shards.push_back(parse_shard(shard));
    const std::string& file = manifest.shards.back().file;
    if (!files.insert(file).second) fail_input("{} is there twice", file);
  }
  check_parts(manifest);
  return manifest;
}

}  // namespace

int64_t num_elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

bool StoredTensor::is_whole() const { return num_elements() == forja::num_elements(shape); }

StoredTensor whole_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                          std::vector<std::string> checksums) {
  return {name, dtype, std::move(checksums), shape, whole_block(shape), 0, num_elements(shape)};
}

std::string checkpoint_shard_name(int shard) {
  return fmt::format("shard-{:05}.safetensors", shard);
}

namespace {

const StoredTensor* some_moment(const Manifest& manifest) {
  for (const StoredShard& shard : manifest.shards)
    for (const StoredTensor& t : shard.tensors)
      if (t.name.rfind("first_moment/", 0) == 0) return &t;
  return nullptr;
}

}  // namespace

bool Manifest::has_moments() const { return some_moment(*this) != nullptr; }

DType Manifest::moment_dtype() const {
  const StoredTensor* moment = some_moment(*this);
  return moment ? moment->dtype : DType::f32;
}

std::vector<std::string> checksums_of(const void* data, int64_t bytes) {
  const auto* const first = static_cast<const uint8_t*>(data);
  std::vector<std::string> out;
  for (int64_t at = 0; at < bytes; at += kPieceBytes)
    out.push_back(hash_hex(hash_bytes(first + at, std::min(kPieceBytes, bytes - at))));
  return out;
}

OrderedJson to_json(const StoredTensor& t) {
  OrderedJson out = {{"name", t.name}, {"dtype", std::string(dtype_name(t.dtype))}};
  out["shape"] = t.is_whole() ? t.shape : std::vector<int64_t>{t.num_elements()};
  out["xxh3"] = t.checksums;
  if (t.is_whole()) return out;
  auto rows = OrderedJson::array();
  for (const LocalBlock::Rows& r : t.block.row_ranges) rows.push_back({r.local, r.full, r.count});
  out["part_of"] = {{"shape", t.shape},
                    {"rows", rows},
                    {"columns", {t.block.first_column, t.block.columns}},
                    {"range", {t.begin, t.end}}};
  return out;
}

OrderedJson to_json(const TrainState& state) {
  OrderedJson out = {{"step", state.step},
                     {"samples", state.samples},
                     {"tokens", state.tokens},
                     {"num_updates", state.num_updates},
                     {"seed", state.seed}};
  const SpikeState& spikes = state.spikes;
  if (spikes == SpikeState{}) return out;
  out["spikes"] = {{"losses", spikes.losses},
                   {"gradient_norms", spikes.gradient_norms},
                   {"began", spikes.began},
                   {"rollbacks", spikes.rollbacks},
                   {"rolled_back_from", spikes.rolled_back_from},
                   {"rolled_back_to", spikes.rolled_back_to}};
  return out;
}

void write_manifest(const std::string& folder, const TrainState& state, const OrderedJson& shards) {
  OrderedJson manifest = {{"format", "forja-checkpoint"}, {"format_version", kFormatVersion}};
  manifest["state"] = to_json(state);
  manifest["shards"] = shards;
  write_file(folder + "/manifest.json", manifest.dump(1));
}

void replace_checkpoint_state(const std::string& path, const TrainState& state) {
  read_manifest(path);  // it is whole
  OrderedJson manifest = OrderedJson::parse(read_file(path + "/manifest.json"));
  manifest["state"] = to_json(state);
  write_file(path + "/manifest.json", manifest.dump(1));
  sync_directory(path);
}

Manifest read_manifest(const std::string& path) {
  const std::string file = path + "/manifest.json", text = read_file(file, Links::refuse);
  Json json;
  try {
    json = parse_json(text, JsonKeys::once);
  } catch (const Error& e) {
    fail_input("{} is damaged or not of a forja checkpoint: {}", file, e.what());
  }
  if (!json.is_object() || !json.contains("format") || json["format"] != "forja-checkpoint")
    fail_input("{} is damaged or not of a forja checkpoint", file);
  try {
    const int64_t version = json_integer(json.at("format_version"), "format_version", 1);
    if (version <= kFormatVersion) return parse_manifest(json);
    fail_input("{} has checkpoint format {}, this binary reads up to {}: use a newer forja", path,
               version, kFormatVersion);
  } catch (const Json::exception& e) {
    fail_input("{} is damaged: {}", file, e.what());
  } catch (const Error& e) {
    fail_input("{}: {}", file, e.what());
  }
}

}  // namespace forja
