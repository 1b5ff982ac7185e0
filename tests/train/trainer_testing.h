// SPDX-License-Identifier: Apache-2.0
// Whole runs on a small model and a small text, in a folder of the test's own.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "forja/base/file.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/data/dataset_writer.h"
#include "forja/train/trainer.h"
#include "tests/data/small_data.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    testing::write_small_tokenizer(folder_.file("tokenizer.json"));
    std::mt19937 random(1);
    std::string text;
    for (int i = 0; i < 300; ++i)
      text += "the quick fox and the lazy dog; el veloz kiwi " + std::to_string(random() % 100) +
              "\n%\n";
    write_file(folder_.file("text.txt"), text);
    TokenizeOptions options;
    options.text.document_separator = "%";
    tokenize_files({folder_.file("text.txt")}, folder_.file("tokenizer.json"), folder_.file("data"),
                   options, {});
  }

  RunConfig config(const std::string& name, const std::vector<std::string>& overrides = {}) {
    const std::string text = R"(
model: {model_type: llama, vocab_size: 411, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4,
        num_key_value_heads: 2, intermediate_size: 48, max_position_embeddings: 64}
data: {tokenizer: tokenizer.json, train: [{path: data}], valid: data, sequence_length: 32}
train: {steps: 8, global_batch_size: 8, micro_batch_size: 2}
parallel: {bucket_mb: 1}
optimizer: {lr: 1.0e-2, schedule: {name: cosine, warmup_steps: 2}}
eval: {every: 4, batches: 2}
checkpoint: {every: 4, keep_last: 0}
)";
    std::vector<std::string> all = {"name=" + name, "output=" + folder_.file(name)};
    all.insert(all.end(), overrides.begin(), overrides.end());
    RunConfig out;
    read_config_text(text, folder_.file("run.yaml"), all, [&](ConfigVisitor& v) { out.visit(v); });
    return out;
  }

  void run(int ranks, const RunConfig& c) {
    testing::run_world(ranks, [&](World& world) { train(c, world); });
  }

  std::vector<nlohmann::json> metrics(const std::string& name) {
    std::vector<nlohmann::json> out;
    std::istringstream lines(read_file(folder_.file(name) + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) out.push_back(nlohmann::json::parse(line));
    return out;
  }

  std::vector<double> losses(const std::string& name) {
    std::vector<double> out;
    for (const auto& line : metrics(name))
      if (line.contains("loss")) out.push_back(line["loss"]);
    return out;
  }

  // All tensors of a checkpoint, by name.
  std::map<std::string, std::vector<double>> weights(const std::string& name, int64_t step) {
    std::map<std::string, std::vector<double>> out;
    const std::string path = folder_.file(name) + "/checkpoints/" + checkpoint_name(step);
    for (const auto& item : std::filesystem::directory_iterator(path)) {
      if (item.path().extension() != ".safetensors") continue;
      const SafetensorsFile file(item.path());
      for (const auto& [tensor, entry] : file.entries())
        out[tensor] = testing::to_doubles(file.tensor(tensor));
    }
    return out;
  }

  testing::TemporaryDirectory folder_;
};

}  // namespace forja
