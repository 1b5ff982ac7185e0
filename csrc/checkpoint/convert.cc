// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "csrc/checkpoint/manifest.h"
#include "csrc/checkpoint/sharded_writer.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/nn/decoder.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

// The descriptions of a model's parameters, without memory for them.
class Description {
 public:
  explicit Description(const ModelConfig& model)
      : store_(DType::f32, StoreUse::inference), decoder_(store_, model, 1) {}
  const ParameterStore& store() const { return store_; }

 private:
  ParameterStore store_;
  Decoder decoder_;
};

// [rows, columns] to [columns, rows].
std::vector<float> transposed(const float* in, int64_t rows, int64_t columns) {
  std::vector<float> out(size_t(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) out[size_t(c * rows + r)] = in[r * columns + c];
  return out;
}

void write_parameter(const ParameterSpec& spec, const float* values, ShardedWriter& writer) {
  for (const HfSegment& segment : spec.segments) {
    if (segment.transpose && spec.shape.size() == 2) {
      writer.write(transposed(values, segment.rows, spec.columns()).data());
    } else {
      writer.write(values);
    }
    values += segment.rows * spec.columns();
  }
}

std::string hf_shard_name(size_t shard, size_t num_shards) {
  if (num_shards == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, num_shards);
}

void write_index(const ShardedWriter& writer, int64_t num_parameters, const std::string& folder) {
  if (writer.shards().size() == 1) return;
  Json files = Json::object();
  for (const ShardedWriter::Shard& shard : writer.shards())
    for (const SafetensorsInfo& t : shard.tensors) files[t.name] = shard.name;
  const Json index = {
      {"metadata", {{"total_parameters", num_parameters}, {"total_size", writer.tensor_bytes()}}},
      {"weight_map", files}};
  write_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
}

DType common_dtype(const std::vector<SafetensorsInfo>& tensors) {
  const auto is_bf16 = [](const SafetensorsInfo& t) { return t.dtype == DType::bf16; };
  return std::all_of(tensors.begin(), tensors.end(), is_bf16) ? DType::bf16 : DType::f32;
}

ConvertedModel result_of(const ParameterStore& store, const std::vector<SafetensorsInfo>& tensors,
                         const ShardedWriter& writer) {
  ConvertedModel out;
  out.num_parameters = store.num_parameters();
  out.num_bytes = writer.tensor_bytes();
  out.num_shards = writer.shards().size();
  out.dtype = common_dtype(tensors);
  return out;
}

// bf16 where every segment of the parameter is stored so.
DType stored_dtype(const HfTensors& tensors, const ParameterSpec& spec) {
  for (const HfSegment& segment : spec.segments) {
    if (tensors.tensor(stored_hf_name(tensors, segment.name)).dtype != DType::bf16)
      return DType::f32;
  }
  return DType::bf16;
}

}  // namespace

ConvertedModel export_hf_model(const WeightSource& weights, const ModelConfig& model,
                               const SpecialIds& ids, const ConvertOptions& options,
                               const std::string& folder) {
  const Description description(model);
  std::vector<ParameterSpec> specs;
  std::vector<SafetensorsInfo> tensors;
  for (const auto& p : description.store().all()) {
    specs.push_back(p->spec);
    const DType dtype = options.dtype.value_or(weights.dtype(p->spec));
    for (const HfSegment& segment : p->spec.segments)
      tensors.push_back({segment.name, dtype, hf_shape(p->spec, segment)});
  }
  const std::string config = hf_config_json(model, common_dtype(tensors), ids);
  ShardedWriter writer(folder, tensors, options.max_shard_bytes, hf_shard_name,
                       {{"format", "pt"}});  // transformers 4.4x asks for this
  for (const auto& p : description.store().all()) {
    write_parameter(p->spec, weights.read(p->spec).data(), writer);
  }
  writer.finish();
  write_index(writer, description.store().num_parameters(), folder);
  write_file(folder + "/config.json", config);
  write_file(folder + "/generation_config.json", hf_generation_config_json(ids));
  ConvertedModel out = result_of(description.store(), tensors, writer);
  out.extra_tensors = weights.names_beside(specs);
  return out;
}

DType hf_weights_dtype(const std::string& directory) {
  const HfTensors tensors(directory);
  for (const std::string& name : tensors.names())
    if (tensors.tensor(name).dtype != DType::bf16) return DType::f32;
  return DType::bf16;
}

ConvertedModel import_hf_model(const std::string& directory, const ModelConfig& model,
                               const std::string& config_yaml, const ConvertOptions& options,
                               const std::string& folder) {
  const Description description(model);
  const HfTensors source(directory);
  const std::vector<std::string> extra = check_hf_tensors(source, description.store());
  std::vector<SafetensorsInfo> tensors;
  for (const auto& p : description.store().all()) {
    tensors.push_back({"model/" + p->spec.name,
                       options.dtype.value_or(stored_dtype(source, p->spec)), p->spec.shape});
  }
  ShardedWriter writer(folder, tensors, options.max_shard_bytes,
                       [](size_t shard, size_t) { return checkpoint_shard_name(int(shard)); },
                       {{"format", "forja"}});
  std::vector<Json> lists(writer.shards().size(), Json::array());
  std::vector<float> values;
  for (const auto& p : description.store().all()) {
    values.resize(size_t(p->spec.num_elements()));
    read_hf_parameter(source, p->spec, values.data());
    const Tensor written = writer.write(values.data());
    lists[writer.current()].push_back(
        to_json(whole_tensor("model/" + p->spec.name, written.dtype, p->spec.shape,
                             checksums_of(written.data, written.num_bytes()))));
  }
  writer.finish();
  Json shards = Json::array();
  for (size_t i = 0; i < lists.size(); ++i) {
    const std::string file = checkpoint_shard_name(int(i));
    shards.push_back({{"file", file},
                      {"bytes", int64_t(std::filesystem::file_size(folder + "/" + file))},
                      {"tensors", lists[i]}});
  }
  write_file(folder + "/config.yaml", config_yaml);
  write_manifest(folder, TrainState{}, shards);
  sync_directory(folder);
  ConvertedModel out = result_of(description.store(), tensors, writer);
  out.extra_tensors = extra;
  return out;
}

}  // namespace forja
