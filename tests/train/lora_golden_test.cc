// SPDX-License-Identifier: Apache-2.0
// Adapters against PEFT in fp64 (tests/golden/lora_*, made by make_lora_reference.py): loss, their
// gradients, five AdamW steps, the merged weights, and its files.
#include <cmath>

#include "forja/base/file.h"
#include "forja/checkpoint/peft.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/train/engine.h"
#include "forja/train/load_weights.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

class LoraGolden : public ::testing::TestWithParam<const char*> {
 protected:
  LoraGolden()
      : directory_(testing::source_dir() + "/tests/golden/" + GetParam()),
        reference_(directory_ + "/reference.safetensors"),
        self_(make_self_communicator()),
        mesh_(make_mesh(*self_, ParallelDims{})) {
    const Tensor ids = reference_.tensor("input_ids");
    config_.model = model_of(directory_);
    config_.rules = {.only_adapters = true};
    config_.micro_batch_size = ids.size(0);
    config_.sequence_length = ids.size(1);
    config_.optimizer.lr = 1e-3;
    config_.optimizer.betas = {0.9, 0.95};
    config_.optimizer.weight_decay = 0.1;
    config_.optimizer.clip_norm = 0.0;
  }

  std::vector<double> expected(const std::string& name) const {
    return testing::to_doubles(reference_.tensor(name));
  }

  // Of a parameter's tensor, the rows of each segment beside those of PEFT.
  void expect_segments(const Parameter& p, const Tensor& values, const std::string& kind) const {
    int64_t row = 0;
    for (const HfSegment& s : p.spec.segments) {
      const Tensor rows = values.slice(0, row, row + s.rows);
      row += s.rows;
      EXPECT_LT(testing::relative_norm(testing::to_doubles(rows),
                                       expected(kind + ".base_model.model." + s.name)),
                1e-5)
          << kind << " " << s.name;
    }
  }

  std::string directory_;
  SafetensorsFile reference_;
  std::unique_ptr<Communicator> self_;
  Mesh mesh_;
  EngineConfig config_;
};

TEST_P(LoraGolden, LossGradientsAndFiveSteps) {
  const MemoryPlan plan = TrainEngine::plan(config_);
  TrainEngine engine(config_, mesh_, &plan);
  engine.store().initialize(engine.context(), 1);
  load_weights(engine.context(), directory_, config_.model, engine.store());
  const std::vector<double> losses = expected("losses");
  const auto fill = [this](int64_t, const MicroBatch& b) {
    return testing::fill_batch(b, reference_.tensor("input_ids"), reference_.tensor("labels"));
  };
  for (int64_t s = 1; s <= 5; ++s) {
    const StepResult result =
        engine.step(s, config_.optimizer.lr, 1, fill, [](int64_t) { return int64_t(0); });
    EXPECT_NEAR(result.loss, losses[size_t(s - 1)], 1e-5 * losses[size_t(s - 1)]) << "step " << s;
    if (s > 1) continue;
    EXPECT_NEAR(result.gradient_norm, expected("grad_norm")[0], 1e-5 * result.gradient_norm);
    for (const auto& p : engine.store().all())
      if (p->spec.adapter) expect_segments(*p, p->gradient, "grad");
  }
  for (const auto& p : engine.store().all())
    if (p->spec.adapter) expect_segments(*p, testing::shaped(*p, p->master), "step5");
}

TEST_P(LoraGolden, MergedWeights) {
  const auto weights = merge_adapters(open_weights(directory_), config_.model);
  ModelConfig plain = config_.model;
  plain.lora = {};
  int64_t compared = 0;
  for (const ParameterSpec& spec : parameters_of(plain)) {
    if (spec.kind != UnitKind::layer || spec.shape.size() != 2) continue;
    std::vector<float> values = weights->read(spec);
    float* at = values.data();
    for (const HfSegment& s : spec.segments) {
      const Tensor rows = make_tensor(at, DType::f32, {s.rows, spec.columns()});
      at += s.rows * spec.columns();
      const auto found = testing::to_doubles(s.transpose ? rows.transposed() : rows),
                 merged = expected("merged." + s.name);
      ASSERT_EQ(found.size(), merged.size());
      // Both are rounded to fp32 once.
      for (size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], merged[i], 2e-7 * (1 + std::fabs(merged[i]))) << s.name;
      ++compared;
    }
  }
  EXPECT_GE(compared, 8);
}

TEST_P(LoraGolden, FilesThereAndBack) {
  testing::TemporaryDirectory folder;
  const auto base = read_peft_config(directory_).base;
  write_peft_adapter(*open_weights(directory_), config_.model, base, DType::f32, folder.path());
  const PeftConfig again = read_peft_config(folder.path());
  EXPECT_EQ(again.base, base);
  EXPECT_EQ(again.lora.rank, config_.model.lora.rank);
  EXPECT_EQ(again.lora.scale(), config_.model.lora.scale());
  const SafetensorsFile found(folder.file("adapter_model.safetensors")),
      expected(directory_ + "/adapter_model.safetensors");
  ASSERT_EQ(found.entries().size(), expected.entries().size());
  for (const auto& [name, entry] : expected.entries()) {
    ASSERT_TRUE(found.has(name)) << name;
    EXPECT_EQ(found.entry(name).shape, entry.shape) << name;
    EXPECT_EQ(testing::to_doubles(found.tensor(name)), testing::to_doubles(expected.tensor(name)))
        << name;
  }
  EXPECT_EQ(model_of(folder.path()).lora.targets.empty(), false);
}

INSTANTIATE_TEST_SUITE_P(All, LoraGolden,
                         ::testing::Values("lora_llama", "lora_qwen2", "lora_gpt2"),
                         [](const auto& instance) { return std::string(instance.param); });

// ---- What is refused, by name

class PeftErrors : public ::testing::Test {
 protected:
  PeftErrors() : source_(testing::source_dir() + "/tests/golden/lora_llama") {
    write_file(folder_.file("adapter_model.safetensors"),
               read_file(source_ + "/adapter_model.safetensors"));
  }
  void write(const std::string& from, const std::string& to) {
    std::string text = read_file(source_ + "/adapter_config.json");
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    const size_t base = text.find("../llama");
    if (base != std::string::npos)
      text.replace(base, 8, testing::source_dir() + "/tests/golden/llama");
    write_file(folder_.file("adapter_config.json"), text);
  }
  std::string error() {
    return testing::error_of([&] { open_weights(folder_.path()); }, ExitCode::bad_input);
  }
  void expect_error(const std::string& from, const std::string& to, const std::string& words) {
    write(from, to);
    EXPECT_NE(error().find(words), std::string::npos) << error();
  }

  std::string source_;
  testing::TemporaryDirectory folder_;
};

TEST_F(PeftErrors, OtherKindsOfAdapters) {
  expect_error("\"LORA\"", "\"IA3\"", "peft_type is \"IA3\"");
  expect_error("\"use_dora\": false", "\"use_dora\": true", "use_dora is true");
  expect_error("\"bias\": \"none\"", "\"bias\": \"all\"", "bias is \"all\"");
  expect_error("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 8}", "rank_pattern");
  expect_error("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]",
               "modules_to_save");
}

TEST_F(PeftErrors, DamagedConfigurations) {
  expect_error("\"r\": 4", "\"r\": 0", "r");
  expect_error("\"r\": 4", "\"r\": 4.5", "r");
  expect_error("\"lora_alpha\": 6", "\"lora_alpha\": \"much\"", "lora_alpha");
  expect_error("\"lora_dropout\": 0.0", "\"lora_dropout\": 1.5", "lora_dropout");
  expect_error("\"LORA\"", "LORA", "adapter_config.json");
}

TEST_F(PeftErrors, AnotherModelsAdapter) {
  expect_error("\"r\": 4", "\"r\": 8", "another model");
  expect_error("../llama", testing::source_dir() + "/tests/golden/qwen3", "another model");
  expect_error("../llama", testing::source_dir() + "/tests/golden/nowhere", "is not here");
  // Layers that have no adapters here.
  expect_error("\"model.layers.1.self_attn.k_proj\",", "", "is of no linear layer");
}

TEST_F(PeftErrors, AModelWithoutAPlaceForThem) {
  ModelConfig model = model_of(source_);
  model.lora = {};
  ParameterStore store(DType::f32, StoreUse::inference);
  testing::TensorBox box;
  const auto load = [&] { load_weights(box.context(), source_, model, store); };
  EXPECT_NE(testing::error_of(load, ExitCode::bad_input).find("no place"), std::string::npos);
}

}  // namespace
}  // namespace forja
