// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/weight_source.h"

#include <map>
#include <set>

#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/nn/decoder.h"
#include "forja/nn/lora.h"

namespace forja {
namespace {

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const std::string& path) : weights_(path) {}
  std::vector<float> read(const ParameterSpec& spec) const override {
    return weights_.read(spec.name, spec.shape);
  }
  DType dtype(const ParameterSpec& spec) const override { return weights_.dtype(spec.name); }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const override {
    std::set<std::string> names;
    for (const std::string& name : weights_.names()) names.insert(name);
    for (const ParameterSpec& spec : specs) names.erase(spec.name);
    return {names.begin(), names.end()};
  }

 private:
  CheckpointWeights weights_;
};

class HfSource : public WeightSource {
 public:
  explicit HfSource(const std::string& directory) : tensors_(directory) {}
  std::vector<float> read(const ParameterSpec& spec) const override {
    std::vector<float> values(size_t(spec.num_elements()));
    read_hf_parameter(tensors_, spec, values.data());
    return values;
  }
  DType dtype(const ParameterSpec& spec) const override {
    for (const HfSegment& segment : spec.segments) {
      const std::string name = stored_hf_name(tensors_, segment.name);
      if (tensors_.tensor(name).dtype != DType::bf16) return DType::f32;
    }
    return DType::bf16;
  }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const override {
    std::set<std::string> names;
    for (const std::string& name : tensors_.names()) names.insert(name);
    for (const ParameterSpec& spec : specs)
      for (const HfSegment& s : spec.segments) names.erase(stored_hf_name(tensors_, s.name));
    return {names.begin(), names.end()};
  }

 private:
  HfTensors tensors_;
};

class Overlay : public WeightSource {
 public:
  Overlay(std::unique_ptr<WeightSource> base, std::unique_ptr<WeightSource> over,
          std::function<bool(const ParameterSpec&)> has)
      : base_(std::move(base)), over_(std::move(over)), has_(std::move(has)) {}
  std::vector<float> read(const ParameterSpec& spec) const override { return of(spec).read(spec); }
  DType dtype(const ParameterSpec& spec) const override { return of(spec).dtype(spec); }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const override {
    return over_->names_beside(specs);
  }

 private:
  const WeightSource& of(const ParameterSpec& spec) const { return has_(spec) ? *over_ : *base_; }
  std::unique_ptr<WeightSource> base_, over_;
  std::function<bool(const ParameterSpec&)> has_;
};

// "layers.0.mlp.up.weight" -> "layers.0.mlp.up".
std::string layer_of(const std::string& parameter) {
  return parameter.substr(0, parameter.rfind('.'));
}

class Merged : public WeightSource {
 public:
  Merged(std::unique_ptr<WeightSource> weights, const ModelConfig& model)
      : weights_(std::move(weights)), lora_(model.lora) {
    for (const ParameterSpec& spec : parameters_of(model)) {
      if (spec.name.ends_with(".lora_a")) adapters_[layer_of(spec.name)].a = spec;
      if (spec.name.ends_with(".lora_b")) adapters_[layer_of(spec.name)].b = spec;
    }
  }
  std::vector<float> read(const ParameterSpec& spec) const override {
    std::vector<float> values = weights_->read(spec);
    const auto adapter = adapters_.find(layer_of(spec.name));
    if (adapter != adapters_.end() && spec.name.ends_with(".weight"))
      add(spec, adapter->second, values.data());
    return values;
  }
  DType dtype(const ParameterSpec& spec) const override { return weights_->dtype(spec); }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const override {
    std::vector<ParameterSpec> all = specs;
    for (const auto& [layer, adapter] : adapters_) {
      all.push_back(adapter.a);
      all.push_back(adapter.b);
    }
    return weights_->names_beside(all);
  }

 private:
  struct Adapter {
    ParameterSpec a, b;
  };

  // The adapters' segments are those of the weight with the same beginning of their names.
  void add(const ParameterSpec& spec, const Adapter& adapter, float* weight) const {
    const std::vector<float> a = weights_->read(adapter.a), b = weights_->read(adapter.b);
    const int64_t rank = lora_.rank, columns = spec.columns();
    const float *part_a = a.data(), *part_b = b.data();
    size_t next = 0;
    for (const HfSegment& segment : spec.segments) {
      const auto& parts = adapter.b.segments;
      if (next < parts.size() && parts[next].name.starts_with(layer_of(segment.name) + ".")) {
        add_adapter_product(part_b, part_a, segment.rows, rank, columns, lora_.scale(), weight);
        part_a += rank * columns;
        part_b += segment.rows * rank;
        ++next;
      }
      weight += segment.rows * columns;
    }
  }

  std::unique_ptr<WeightSource> weights_;
  LoraConfig lora_;
  std::map<std::string, Adapter> adapters_;  // by the name of the layer
};

}  // namespace

std::unique_ptr<WeightSource> open_checkpoint_weights(const std::string& path) {
  return std::make_unique<CheckpointSource>(path);
}

std::unique_ptr<WeightSource> open_hf_weights(const std::string& directory) {
  return std::make_unique<HfSource>(directory);
}

std::unique_ptr<WeightSource> overlay_weights(std::unique_ptr<WeightSource> base,
                                              std::unique_ptr<WeightSource> over,
                                              std::function<bool(const ParameterSpec&)> has) {
  return std::make_unique<Overlay>(std::move(base), std::move(over), std::move(has));
}

std::unique_ptr<WeightSource> merge_adapters(std::unique_ptr<WeightSource> weights,
                                             const ModelConfig& model) {
  return std::make_unique<Merged>(std::move(weights), model);
}

std::vector<ParameterSpec> parameters_of(const ModelConfig& model) {
  ParameterStore store(DType::f32, StoreUse::inference);
  const Decoder decoder(store, model, 1);
  std::vector<ParameterSpec> out;
  for (const auto& p : store.all()) out.push_back(p->spec);
  return out;
}

}  // namespace forja
