// SPDX-License-Identifier: Apache-2.0
#include "forja/train/run_directory.h"

#include <filesystem>
#include <functional>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/checkpoint/checkpoint.h"

namespace forja {
namespace {

// What makes a run the same run: the model, the data and everything that enters the weights. Its
// length, evaluation, saving and layout may change, data may move to another folder, and moments
// may be kept in another dtype.
std::string identity(RunConfig config, std::string (*part)(RunConfig&)) { return part(config); }

std::string model_of(RunConfig& c) {
  return print_config([&](ConfigVisitor& v) { c.model.visit(v); });
}
std::string data_of(RunConfig& c) {
  c.data.valid.clear();
  c.data.tokenizer.clear();
  c.data.samples.read.chat_template.clear();
  for (TrainDataConfig& source : c.data.train) source.path.clear();
  return print_config([&](ConfigVisitor& v) { c.data.visit(v); });
}
std::string optimizer_of(RunConfig& c) {
  c.optimizer.state_dtype = OptimizerConfig().state_dtype;
  c.optimizer.stochastic_rounding = false;
  return print_config([&](ConfigVisitor& v) { c.optimizer.visit(v); });
}
std::string lora_of(RunConfig& c) {
  return print_config([&](ConfigVisitor& v) { c.model.lora.visit(v); });
}
std::string rules_of(RunConfig& c) {
  return print_config([&](ConfigVisitor& v) { v.list("parameters", c.parameters, ""); });
}
std::string preference_of(RunConfig& c) {
  return print_config([&](ConfigVisitor& v) { c.preference.visit(v); });
}
// Checkpoints lack what is frozen: from elsewhere it would be another model.
std::string base_of(RunConfig& c) { return c.rules().freeze_some() ? c.init.from : ""; }
std::string seed_of(RunConfig& c) { return std::to_string(c.train.seed); }
std::string precision_of(RunConfig& c) { return c.train.precision; }
std::string batch_of(RunConfig& c) {
  return fmt::format("{}, ramp from {} over {}", c.train.global_batch_size,
                     c.train.batch_ramp.start, c.train.batch_ramp.steps);
}

// The first part in which the run of a resolved configuration is another one; "" where none is.
std::string difference(const RunConfig& config, const std::string& resolved) {
  const RunConfig other = read_run_config_text(read_file(resolved), resolved);
  const std::pair<const char*, std::string (*)(RunConfig&)> parts[] = {
      {"model", model_of},
      {"data", data_of},
      {"optimizer", optimizer_of},
      {"lora", lora_of},
      {"parameters", rules_of},
      {"preference", preference_of},
      {"init.from", base_of},
      {"train.seed", seed_of},
      {"train.precision", precision_of},
      {"train.global_batch_size", batch_of}};
  for (const auto& [name, part] : parts)
    if (identity(config, part) != identity(other, part)) return name;
  return "";
}

// What writes that were cut off have left beside their files.
void remove_temporary(const std::string& directory) {
  for (const auto& item : std::filesystem::directory_iterator(directory)) {
    std::error_code ignored;
    if (item.path().filename().string().find(".tmp-") != std::string::npos)
      std::filesystem::remove(item.path(), ignored);
  }
}

}  // namespace

std::vector<std::string> RunDirectory::find_resume(const RunConfig& config) const {
  for (const char* foreign : {"manifest.json", "config.json"}) {
    if (!std::filesystem::exists(path_ + "/" + foreign)) continue;
    fail_input(
        "{} holds a {}, so it is a dataset, checkpoint or model and no run directory: give another "
        "name or output",
        path_, foreign);
  }
  if (!std::filesystem::exists(this->config())) return {};
  if (config.train.resume == "never") {
    fail_input(
        "{} already holds a run and train.resume is never: remove it, or give another name or "
        "output",
        path_);
  }
  const std::string part = difference(config, this->config());
  if (!part.empty()) {
    fail_input(
        "{} already holds another run: \"{}\" differs from {}. Give another name or output, or "
        "remove it",
        path_, part, this->config());
  }
  return list_checkpoints(checkpoints());
}

void RunDirectory::check_own(const RunConfig& config, const std::string& checkpoint) const {
  const std::string part = difference(config, checkpoint + "/config.yaml");
  if (part.empty()) return;
  fail_input(
      "it is of another run: \"{}\" differs in its config.yaml; to start from its weights, give it "
      "as init.from of a new run",
      part);
}

void RunDirectory::prepare(const RunConfig& config) const {
  make_directories(path_);
  remove_temporary(path_);
  make_directories(tensorboard());
  make_directories(checkpoints());
  write_file(this->config(), config.to_yaml());
}

}  // namespace forja
