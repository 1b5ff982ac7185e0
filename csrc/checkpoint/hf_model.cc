// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/hf_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "forja/base/error.h"
#include "forja/base/json.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// What an index says: tensor -> file.
std::map<std::string, std::string> read_index(const std::string& directory) {
  const std::string path = directory + "/" + kIndex;
  nlohmann::json index;
  try {
    index = parse_json(read_file(path));
  } catch (const Error& e) {
    fail_input("{} is damaged: {}", path, e.what());
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail_input("{} is damaged: expected a JSON object with a weight_map", path);
  std::map<std::string, std::string> out;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!is_file_name(name)) {
      fail_input("{}: the file {} of tensor {} is no name of a file beside it", path, shown(file),
                 shown(tensor));
    }
    if (!file_exists(directory + "/" + name))
      fail_input("{} names the file {} (of tensor {}), which is missing", path, name, tensor);
    out[tensor] = name;
  }
  return out;
}

// Why a segment cannot be read from the directory; "" when it can.
std::string problem_of(const HfTensors& tensors, const ParameterSpec& spec,
                       const HfSegment& segment) {
  const std::string name = stored_hf_name(tensors, segment.name);
  if (!tensors.has(name)) return fmt::format("the tensor {} (for {}) is missing", name, spec.name);
  const Tensor stored = tensors.tensor(name);
  const std::vector<int64_t> expected = hf_shape(spec, segment),
                             found(stored.sizes.begin(), stored.sizes.begin() + stored.rank);
  if (found == expected) return "";
  return fmt::format("tensor {} has shape {}, the model wants {}", name, shape_text(found),
                     shape_text(expected));
}

// Rows [row, row + segment.rows) of a parameter from one stored tensor.
void read_segment(const HfTensors& tensors, const ParameterSpec& spec, const HfSegment& segment,
                  float* out) {
  const std::string problem = problem_of(tensors, spec, segment);
  if (!problem.empty()) fail_input("{}: {}", tensors.directory(), problem);
  const std::string name = stored_hf_name(tensors, segment.name);
  const Tensor stored = tensors.tensor(name);
  if (!segment.transpose || spec.shape.size() != 2) {
    read_as_float(stored, out);
  } else {
    const int64_t columns = spec.columns();
    std::vector<float> values(size_t(stored.num_elements()));
    read_as_float(stored, values.data());
    for (int64_t r = 0; r < segment.rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        out[r * columns + c] = values[size_t(c * segment.rows + r)];
  }
  tensors.release(name);
}

// Masks and frequencies that older files keep beside the weights.
bool is_buffer(const std::string& name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with("rotary_emb.inv_freq");
}

// A tied head that is stored once more: the same bytes as the embedding.
bool is_copy_of_embedding(const HfTensors& tensors, const ParameterStore& store,
                          const std::string& name) {
  const Parameter* embedding = store.find("embedding.weight");
  if (name != "lm_head.weight" || !embedding) return false;
  const std::string table = stored_hf_name(tensors, embedding->spec.segments[0].name);
  if (!tensors.has(table)) return false;
  const Tensor a = tensors.tensor(name), b = tensors.tensor(table);
  return a.dtype == b.dtype && a.num_bytes() == b.num_bytes() &&
         std::memcmp(a.data, b.data, size_t(a.num_bytes())) == 0;
}

}  // namespace

HfTensors::HfTensors(const std::string& directory) : directory_(directory) {
  std::map<std::string, std::string> index;
  std::set<std::string> names;
  if (file_exists(directory + "/" + kSingle)) {
    names.insert(kSingle);
  } else if (file_exists(directory + "/" + kIndex)) {
    index = read_index(directory);
    for (const auto& [tensor, file] : index) names.insert(file);
  } else {
    fail_input("{}: neither {} nor {} is there", directory, kSingle, kIndex);
  }
  for (const std::string& name : names) {
    files_.push_back(std::make_unique<SafetensorsFile>(directory + "/" + name));
    for (const auto& [tensor, entry] : files_.back()->entries()) {
      // Where a tensor is in two files, the index says which is meant.
      const auto indexed = index.find(tensor);
      if (indexed == index.end() || indexed->second == name) file_of_[tensor] = files_.back().get();
    }
  }
  for (const auto& [tensor, file] : index) {
    if (!has(tensor))
      fail_input("{}/{}: tensor {} is not in its file {}", directory, kIndex, tensor, file);
  }
}

Tensor HfTensors::tensor(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) fail_input("{}: no tensor named {}", directory_, name);
  return found->second->tensor(name);
}

std::vector<std::string> HfTensors::names() const {
  std::vector<std::string> out;
  for (const auto& [name, file] : file_of_) out.push_back(name);
  return out;
}

bool is_hf_directory(const std::string& path) {
  return file_exists(path + "/config.json") &&
         (file_exists(path + "/" + kSingle) || file_exists(path + "/" + kIndex));
}

std::vector<int64_t> hf_shape(const ParameterSpec& spec, const HfSegment& segment) {
  if (spec.shape.size() != 2) return {segment.rows};
  if (segment.transpose) return {spec.columns(), segment.rows};
  return {segment.rows, spec.columns()};
}

std::string stored_hf_name(const HfTensors& tensors, const std::string& name) {
  const std::string prefix = "transformer.";
  if (!tensors.has(name) && name.starts_with(prefix)) return name.substr(prefix.size());
  return name;
}

std::vector<std::string> check_hf_tensors(const HfTensors& tensors, const ParameterStore& store) {
  std::set<std::string> read;
  std::vector<std::string> problems, extra;
  for (const auto& p : store.all()) {
    for (const HfSegment& segment : p->spec.segments) {
      const std::string problem = problem_of(tensors, p->spec, segment);
      if (!problem.empty()) problems.push_back(problem);
      read.insert(stored_hf_name(tensors, segment.name));
    }
  }
  if (!problems.empty()) {
    const size_t more = problems.size() - 1;
    fail_input("{}: {}{}", tensors.directory(), problems[0],
               more == 0 ? "" : fmt::format("; and {} more like this", more));
  }
  for (const std::string& name : tensors.names()) {
    if (read.count(name) == 0 && !is_buffer(name) && !is_copy_of_embedding(tensors, store, name))
      extra.push_back(name);
  }
  return extra;
}

void read_hf_parameter(const HfTensors& tensors, const ParameterSpec& spec, float* out) {
  int64_t row = 0;
  for (const HfSegment& segment : spec.segments) {
    read_segment(tensors, spec, segment, out + row * spec.columns());
    row += segment.rows;
  }
  FORJA_CHECK(row == spec.rows(), "the segments of {} have {} rows", spec.name, row);
}

void load_hf_weights(const Context& ctx, const std::string& directory, ParameterStore& store) {
  const HfTensors tensors(directory);
  std::vector<float> values;
  for (const auto& p : store.all()) {
    if (p->spec.adapter) continue;
    values.resize(size_t(p->spec.num_elements()));
    read_hf_parameter(tensors, p->spec, values.data());
    set_from_full(ctx, *p, StateKind::weight, values.data());
  }
  store.update_compute_weights(ctx);
}

}  // namespace forja
