// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/hf_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "forja/base/error.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// Older GPT-2 files lack the "transformer." in front.
std::string stored_name(const HfTensors& tensors, const std::string& name) {
  const std::string prefix = "transformer.";
  if (!tensors.has(name) && name.rfind(prefix, 0) == 0) return name.substr(prefix.size());
  return name;
}

// Rows [row, row + segment.rows) of `parameter` from one stored tensor.
void load_segment(const HfTensors& tensors, const std::string& directory, const ParameterSpec& spec,
                  const HfSegment& segment, float* out) {
  const std::string name = stored_name(tensors, segment.name);
  if (!tensors.has(name))
    fail_input("{}: the tensor {} (for {}) is missing", directory, name, spec.name);
  const Tensor stored = tensors.tensor(name);
  const int64_t columns = spec.shape.size() == 2 ? spec.shape[1] : 1;
  const bool transpose = segment.transpose && spec.shape.size() == 2;
  std::vector<int64_t> expected = {segment.rows};
  if (spec.shape.size() == 2) expected.push_back(columns);
  if (transpose) std::swap(expected[0], expected[1]);
  const std::vector<int64_t> found(stored.sizes.begin(), stored.sizes.begin() + stored.rank);
  if (found != expected) {
    fail_input("{}: tensor {} has shape {}, the model wants {}", directory, name, shape_text(found),
               shape_text(expected));
  }
  if (!transpose) return read_as_float(stored, out);
  std::vector<float> values(size_t(stored.num_elements()));
  read_as_float(stored, values.data());
  for (int64_t r = 0; r < segment.rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      out[r * columns + c] = values[size_t(c * segment.rows + r)];
}

}  // namespace

HfTensors::HfTensors(const std::string& directory) : directory_(directory) {
  std::set<std::string> names;
  if (fs::exists(directory + "/" + kSingle)) {
    names.insert(kSingle);
  } else if (fs::exists(directory + "/" + kIndex)) {
    const auto index = nlohmann::json::parse(read_file(directory + "/" + kIndex), nullptr, false);
    if (index.is_discarded() || !index.contains("weight_map"))
      fail_input("{}/{} is damaged", directory, kIndex);
    for (const auto& [tensor, file] : index["weight_map"].items())
      names.insert(file.get<std::string>());
  } else {
    fail_input("{}: neither {} nor {} is there", directory, kSingle, kIndex);
  }
  for (const std::string& name : names) {
    files_.push_back(std::make_unique<SafetensorsFile>(directory + "/" + name));
    for (const auto& [tensor, entry] : files_.back()->entries())
      file_of_[tensor] = files_.back().get();
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
  return fs::exists(path + "/config.json") &&
         (fs::exists(path + "/" + kSingle) || fs::exists(path + "/" + kIndex));
}

void load_hf_weights(const Context& ctx, const std::string& directory, ParameterStore& store) {
  const HfTensors tensors(directory);
  std::vector<float> values;
  for (const auto& p : store.all()) {
    values.resize(size_t(p->spec.num_elements()));
    const int64_t columns = p->spec.shape.size() == 2 ? p->spec.shape[1] : 1;
    int64_t row = 0;
    for (const HfSegment& segment : p->spec.segments) {
      load_segment(tensors, directory, p->spec, segment, values.data() + row * columns);
      row += segment.rows;
    }
    FORJA_CHECK(row == p->spec.shape[0], "the segments of {} have {} rows", p->spec.name, row);
    set_from_full(ctx, *p, StateKind::weight, values.data());
  }
  store.update_compute_weights(ctx);
}

}  // namespace forja
