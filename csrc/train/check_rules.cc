// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/check_rules.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "forja/base/text.h"
#include "forja/nn/decoder.h"

namespace forja {
namespace {

// The descriptions of a model's parameters.
struct Description {
  explicit Description(const ModelConfig& model, const ParameterRules& rules = {})
      : store({.use = StoreUse::inference, .rules = rules}), decoder(store, model, 1) {}
  ParameterStore store;
  Decoder decoder;
};

std::string list(const std::set<std::string>& names) {
  return join({names.begin(), names.end()}, ", ");
}

// "layers.12.mlp.up.weight" -> "layers.*.mlp.up.weight".
std::string of_any_layer(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  if (!name.starts_with(kLayers)) return name;
  return std::string(kLayers) + "*" + name.substr(name.find('.', kLayers.size()));
}

// Of all layers together.
std::string names_of(const ParameterStore& store) {
  std::set<std::string> names;
  for (const auto& p : store.all()) names.insert(of_any_layer(p->spec.name));
  return list(names);
}

std::string targets_of(const ParameterStore& store) {
  std::set<std::string> names;
  for (const auto& p : store.all()) {
    if (p->spec.kind != UnitKind::layer || p->spec.shape.size() != 2) continue;
    for (const HfSegment& s : p->spec.segments) {
      const std::string layer = s.name.substr(0, s.name.rfind('.'));
      names.insert(layer.substr(layer.rfind('.') + 1));
    }
  }
  return list(names);
}

void check_targets(ConfigVisitor& v, ModelConfig model) {
  const LoraConfig lora = model.lora;
  model.lora.rank = 0;
  const Description without(model);
  for (const std::string& target : lora.targets) {
    model.lora = lora;
    model.lora.targets = {target};
    if (Description(model).store.all().size() > without.store.all().size()) continue;
    v.fault("lora", fmt::format("targets: {} is no linear layer of the model, which has {}", target,
                                targets_of(without.store)));
  }
  if (lora.targets.empty())
    v.fault("lora", fmt::format("targets: none is given; there are {}", targets_of(without.store)));
}

}  // namespace

int64_t count_trained(const RunConfig& run) {
  return Description(run.model, run.rules()).store.num_trained();
}

void check_rules(ConfigVisitor& v, const RunConfig& run) {
  if (run.model.lora.is_on()) check_targets(v, run.model);
  const ParameterRules rules = run.rules();
  if (rules.freeze_some() && run.init.from.empty()) {
    v.fault("init", "some parameters are not trained: say by init.from whose weights they have");
  }
  if (rules.rules.empty()) return;
  const Description description(run.model, rules);
  const auto& all = description.store.all();
  for (const ParameterRule& rule : rules.rules) {
    const auto matches = [&](const auto& p) { return rule.matches(p->spec.name); };
    if (std::any_of(all.begin(), all.end(), matches)) continue;
    v.fault("parameters", fmt::format("{} matches none of the model's, which are {}", rule.match,
                                      names_of(description.store)));
  }
  if (description.store.num_trained() == 0)
    v.fault("parameters", "with these, nothing is left to be trained");
}

}  // namespace forja
