// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/peft.h"

#include <cmath>
#include <filesystem>
#include <set>

#include "csrc/checkpoint/sharded_writer.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/json.h"
#include "forja/base/text.h"
#include "forja/checkpoint/hf_model.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr size_t kMostShown = 80;
constexpr const char* kPrefix = "base_model.model.";

// What changes the meaning of an adapter, and the only value of it that is understood. Absent, null
// and empty count as that.
struct Setting {
  const char* key;
  nlohmann::json value;
};
const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"peft_type", "LORA"},
      {"bias", "none"},
      {"use_dora", false},
      {"lora_bias", false},
      {"rank_pattern", nullptr},
      {"alpha_pattern", nullptr},
      {"modules_to_save", nullptr},
      {"layers_to_transform", nullptr},
      {"layers_pattern", nullptr},
      {"layer_replication", nullptr},
      {"exclude_modules", nullptr},
      {"target_parameters", nullptr},
      {"trainable_token_indices", nullptr},
      {"use_qalora", false},
      {"use_bdlora", false},
      {"alora_invocation_tokens", nullptr},
      {"arrow_config", nullptr},
      {"kasa_config", nullptr},
      {"monteclora_config", nullptr},
  };
  return all;
}

bool says_nothing(const nlohmann::json& value) {
  return value.is_null() || ((value.is_object() || value.is_array()) && value.empty());
}

template <class T>
T get(const nlohmann::json& json, const char* key, T otherwise, bool good) {
  if (!json.contains(key)) return otherwise;
  if (!good) fail_input("{} is {}", key, shown(json[key]));
  return json[key].get<T>();
}

std::vector<std::string> targets_of(const nlohmann::json& json) {
  const auto found = json.find("target_modules");
  if (found == json.end()) fail_input("target_modules is missing");
  if (*found == "all-linear") return {"all-linear"};
  std::vector<std::string> out;
  if (found->is_array()) {
    for (const auto& name : *found)
      if (name.is_string()) out.push_back(name.get<std::string>());
  }
  if (out.empty() || out.size() != found->size())
    fail_input("target_modules is {}: expected a list of names", shown(*found));
  return out;
}

PeftConfig parse_config(const nlohmann::json& json) {
  if (!json.is_object()) fail_input("expected a JSON object");
  for (const auto& [key, value] : settings()) {
    const auto found = json.find(key);
    if (found == json.end() || says_nothing(*found) || *found == value) continue;
    fail_input("{} is {}, which Forja does not know", key, found->dump().substr(0, kMostShown));
  }
  PeftConfig out;
  const auto is_number = [&](const char* key) {
    return json.contains(key) && json[key].is_number();
  };
  if (!json.contains("r")) fail_input("r is missing");
  out.lora.rank = json_integer(json["r"], "r", 1, 1 << 16);
  out.lora.alpha = get(json, "lora_alpha", 8.0, is_number("lora_alpha"));
  out.lora.dropout = get(json, "lora_dropout", 0.0, is_number("lora_dropout"));
  out.lora.rslora = get(json, "use_rslora", false,
                        json.contains("use_rslora") && json["use_rslora"].is_boolean());
  out.lora.targets = targets_of(json);
  const auto base = json.find("base_model_name_or_path");
  if (base != json.end() && base->is_string()) out.base = base->get<std::string>();
  if (!(out.lora.alpha > 0.0)) fail_input("lora_alpha is {}", out.lora.alpha);
  if (!(out.lora.dropout >= 0.0 && out.lora.dropout < 1.0))
    fail_input("lora_dropout is {}", out.lora.dropout);
  return out;
}

std::string peft_name(const HfSegment& segment) { return kPrefix + segment.name; }

class PeftSource : public WeightSource {
 public:
  explicit PeftSource(const std::string& directory) : file_(directory + "/" + kWeights) {}

  // Every adapter has its tensors, and there are no others.
  void check(const ModelConfig& model) const {
    std::vector<ParameterSpec> adapters;
    for (const ParameterSpec& spec : parameters_of(model))
      if (spec.adapter) adapters.push_back(spec);
    for (const ParameterSpec& spec : adapters)
      for (const HfSegment& s : spec.segments) check(spec, s);
    const std::vector<std::string> others = names_beside(adapters);
    if (others.empty()) return;
    fail_input("{}: {}{} is of no linear layer that gets an adapter here", file_.path(), others[0],
               others.size() > 1 ? fmt::format(", like {} more,", others.size() - 1) : "");
  }

  std::vector<float> read(const ParameterSpec& spec) const override {
    std::vector<float> values(size_t(spec.num_elements()));
    float* at = values.data();
    for (const HfSegment& segment : spec.segments) {
      check(spec, segment);
      read_as_float(file_.tensor(peft_name(segment)), at);
      at += segment.rows * spec.columns();
    }
    return values;
  }
  DType dtype(const ParameterSpec& spec) const override {
    for (const HfSegment& s : spec.segments)
      if (file_.entry(peft_name(s)).dtype != DType::bf16) return DType::f32;
    return DType::bf16;
  }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const override {
    std::set<std::string> names;
    for (const auto& [name, entry] : file_.entries()) names.insert(name);
    for (const ParameterSpec& spec : specs)
      for (const HfSegment& s : spec.segments) names.erase(peft_name(s));
    return {names.begin(), names.end()};
  }

 private:
  void check(const ParameterSpec& spec, const HfSegment& segment) const {
    const std::vector<int64_t> wanted = hf_shape(spec, segment);
    const std::vector<int64_t>& found = file_.entry(peft_name(segment)).shape;
    if (found == wanted) return;
    fail_input("{}: {} is {}, this model's is {}: it is the adapter of another model", file_.path(),
               peft_name(segment), shape_text(found), shape_text(wanted));
  }
  static std::string shape_text(const std::vector<int64_t>& shape) {
    std::vector<std::string> sizes;
    for (const int64_t n : shape) sizes.push_back(std::to_string(n));
    return "[" + join(sizes, ", ") + "]";
  }

  SafetensorsFile file_;
};

std::string describe(const LoraConfig& c) {
  return fmt::format("rank {}, alpha {}{}, targets [{}]", c.rank, c.alpha,
                     c.rslora ? ", rslora" : "", join(c.targets, ", "));
}

// The last parts of the names of the layers that have adapters.
std::vector<std::string> target_names(const std::vector<ParameterSpec>& adapters) {
  std::set<std::string> out;
  for (const ParameterSpec& spec : adapters) {
    for (const HfSegment& s : spec.segments) {
      const std::string layer = s.name.substr(0, s.name.find(".lora_"));
      out.insert(layer.substr(layer.rfind('.') + 1));
    }
  }
  return {out.begin(), out.end()};
}

std::string config_text(const ModelConfig& model, const std::vector<ParameterSpec>& adapters,
                        const std::string& base) {
  const LoraConfig& lora = model.lora;
  // Of one name in several places ("c_proj"), all or those that the user has named in full.
  const bool all = lora.targets == std::vector<std::string>{"all-linear"};
  const Json json = {{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", base},
                     {"r", lora.rank},
                     {"lora_alpha", lora.alpha},
                     {"lora_dropout", lora.dropout},
                     {"target_modules", all ? target_names(adapters) : lora.targets},
                     {"use_rslora", lora.rslora},
                     {"use_dora", false},
                     {"bias", "none"},
                     {"fan_in_fan_out", model.model_type == "gpt2"},
                     {"init_lora_weights", true},
                     {"inference_mode", true},
                     {"modules_to_save", nullptr}};
  return json.dump(2) + "\n";
}

}  // namespace

bool is_peft_directory(const std::string& path) { return file_exists(path + "/" + kConfig); }

PeftConfig read_peft_config(const std::string& directory) {
  const std::string path = directory + "/" + kConfig;
  try {
    PeftConfig out = parse_config(parse_json(read_file(path)));
    const auto beside = std::filesystem::path(directory) / out.base;
    if (!out.base.empty() && std::filesystem::is_directory(beside))
      out.base = std::filesystem::canonical(beside);
    return out;
  } catch (const Error& e) {
    fail_input("{}: {}", path, e.what());
  }
}

std::string describe_peft_adapter(const std::string& directory) {
  const PeftConfig config = read_peft_config(directory);
  const SafetensorsFile file(directory + "/" + kWeights);
  int64_t parameters = 0;
  std::string table;
  for (const auto& [name, entry] : file.entries()) {
    parameters += entry.num_elements();
    table += fmt::format("  {:<80} {}\n", name, file.tensor(name).to_string());
  }
  return fmt::format("PEFT adapter: LoRA of {}, {} parameters\nof the model {}\n{}",
                     describe(config.lora), parameters, config.base, table);
}

std::unique_ptr<WeightSource> open_peft_weights(const std::string& directory,
                                                const ModelConfig& model) {
  const LoraConfig found = read_peft_config(directory).lora;
  const LoraConfig& wanted = model.lora;
  if (found.rank != wanted.rank || std::fabs(found.scale() / wanted.scale() - 1.0) > 1e-6) {
    fail_input("{} has adapters of {}; wanted here: {}", directory, describe(found),
               describe(wanted));
  }
  auto out = std::make_unique<PeftSource>(directory);
  out->check(model);
  return out;
}

void load_peft_weights(const Context& ctx, const std::string& directory, const ModelConfig& model,
                       ParameterStore& store) {
  const auto source = open_peft_weights(directory, model);
  for (const auto& p : store.all())
    if (p->spec.adapter) set_from_full(ctx, *p, StateKind::weight, source->read(p->spec).data());
  store.update_compute_weights(ctx);
}

int64_t write_peft_adapter(const WeightSource& weights, const ModelConfig& model,
                           const std::string& base, DType dtype, const std::string& folder) {
  std::vector<ParameterSpec> adapters;
  std::vector<SafetensorsInfo> tensors;
  for (const ParameterSpec& spec : parameters_of(model)) {
    if (!spec.adapter) continue;
    adapters.push_back(spec);
    for (const HfSegment& s : spec.segments)
      tensors.push_back({peft_name(s), dtype, hf_shape(spec, s)});
  }
  ShardedWriter writer(folder, tensors, INT64_MAX,
                       [](size_t, size_t) { return std::string(kWeights); }, {{"format", "pt"}});
  for (const ParameterSpec& spec : adapters) {
    const std::vector<float> values = weights.read(spec);
    const float* at = values.data();
    for (const HfSegment& s : spec.segments) {
      writer.write(at);
      at += s.rows * spec.columns();
    }
  }
  writer.finish();
  write_file(folder + "/" + kConfig, config_text(model, adapters, base));
  return writer.tensor_bytes();
}

}  // namespace forja
