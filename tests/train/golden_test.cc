// SPDX-License-Identifier: Apache-2.0
// Whole models against transformers in fp64 (tests/golden, made by make_reference.py): logits,
// loss, every gradient, and the weights after five AdamW steps.
#include <cmath>

#include "forja/checkpoint/hf_model.h"
#include "forja/nn/decoder.h"
#include "forja/train/engine.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

std::string golden(const std::string& name) {
  return testing::source_dir() + "/tests/golden/" + name;
}

// The rows of a segment of `t`, which has the layout of a parameter, in the layout of the Hugging
// Face tensor.
std::vector<double> segment_values(const Parameter& p, const Tensor& t, const HfSegment& segment,
                                   int64_t row) {
  const bool matrix = p.spec.shape.size() == 2;
  const Tensor rows = t.slice(0, row, row + segment.rows);
  return testing::to_doubles(matrix && segment.transpose ? rows.transposed() : rows);
}

// GPT-2's key biases have a true gradient of zero: the softmax does not see a shift of all keys.
// AdamW turns rounding noise there into steps.
bool is_key_bias(const std::string& hf_name) { return hf_name.ends_with("attn.c_attn.bias"); }

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  Golden()
      : directory_(golden(GetParam())),
        reference_(directory_ + "/reference.safetensors"),
        self_(make_self_communicator()),
        mesh_(make_mesh(*self_, ParallelDims{})) {
    const Tensor ids = reference_.tensor("input_ids");
    config_.model = read_model_config(directory_ + "/config.json");
    config_.micro_batch_size = ids.size(0);
    config_.sequence_length = ids.size(1);
    config_.optimizer.lr = 1e-3;
    config_.optimizer.betas = {0.9, 0.95};
    config_.optimizer.weight_decay = 0.1;
    config_.optimizer.clip_norm = 0.0;
  }

  std::unique_ptr<TrainEngine> make_engine() {
    const MemoryPlan plan = TrainEngine::plan(config_);
    auto engine = std::make_unique<TrainEngine>(config_, mesh_, &plan);
    load_hf_weights(engine->context(), directory_, engine->store());
    return engine;
  }

  Tensor fill(const MicroBatch& b) const {
    return testing::fill_batch(b, reference_.tensor("input_ids"), reference_.tensor("labels"));
  }

  StepResult step(TrainEngine& engine, int64_t number) {
    return engine.step(
        number, config_.optimizer.lr, 1, [this](int64_t, const MicroBatch& b) { return fill(b); },
        [](int64_t) { return int64_t(0); });
  }

  std::string directory_;
  SafetensorsFile reference_;
  std::unique_ptr<Communicator> self_;
  Mesh mesh_;
  EngineConfig config_;
};

TEST_P(Golden, LossGradientsAndFiveSteps) {
  const auto engine = make_engine();
  const std::vector<double> losses = testing::to_doubles(reference_.tensor("losses"));
  for (int64_t s = 1; s <= 5; ++s) {
    const StepResult result = step(*engine, s);
    EXPECT_NEAR(result.loss, losses[size_t(s - 1)], 1e-5 * losses[size_t(s - 1)]) << "step " << s;
    if (s > 1) continue;
    EXPECT_NEAR(result.gradient_norm, testing::to_doubles(reference_.tensor("grad_norm"))[0],
                1e-5 * result.gradient_norm);
    for (const auto& p : engine->store().all()) {
      int64_t row = 0;
      for (const HfSegment& segment : p->spec.segments) {
        const auto expected = testing::to_doubles(reference_.tensor("grad." + segment.name));
        EXPECT_LT(testing::relative_norm(segment_values(*p, p->gradient, segment, row), expected),
                  1e-5)
            << segment.name;
        row += segment.rows;
      }
    }
  }
  for (const auto& p : engine->store().all()) {
    int64_t row = 0;
    for (const HfSegment& segment : p->spec.segments) {
      const auto expected = testing::to_doubles(reference_.tensor("step5." + segment.name));
      const auto found = segment_values(*p, testing::shaped(*p, p->master), segment, row);
      row += segment.rows;
      const size_t third = expected.size() / 3;
      for (size_t i = 0; i < expected.size(); ++i) {
        if (is_key_bias(segment.name) && i >= third && i < 2 * third) continue;
        // No element may be further off than a tenth of one step.
        ASSERT_NEAR(found[i], expected[i], 0.1 * config_.optimizer.lr)
            << segment.name << " element " << i;
      }
      if (is_key_bias(segment.name)) continue;
      EXPECT_LT(testing::relative_norm(found, expected), 1e-5) << segment.name;
    }
  }
}

TEST_P(Golden, Logits) {
  testing::TensorBox box;
  ParameterStore store(DType::f32, StoreUse::inference);
  const int64_t rows = config_.micro_batch_size * config_.sequence_length;
  Decoder decoder(store, config_.model, config_.sequence_length);
  Arena weights("weights", {}, 64 << 20), unused("unused");
  store.allocate_all(weights, unused, unused);
  decoder.allocate_constants(box.context(), weights);
  load_hf_weights(box.context(), directory_, store);

  const MicroBatch b =
      allocate_micro_batch(weights, config_.micro_batch_size, config_.sequence_length, false);
  DecoderInput input;
  input.rows.sequences = fill(b);
  input.rows.positions = b.positions;
  input.tokens = b.tokens;
  std::vector<int64_t> all_rows;
  for (int64_t r = 0; r < rows; ++r) all_rows.push_back(r);
  const Tensor logits = box.empty(DType::f32, {rows, config_.model.vocab_size});
  decoder.generate(box.context(), input, {}, all_rows, logits);

  const auto found = testing::to_doubles(logits),
             expected = testing::to_doubles(reference_.tensor("logits"));
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], 5e-5) << "logit " << i;
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         ::testing::Values("gpt2", "gpt2_erf", "llama", "llama3_rope",
                                           "llama_linear_rope", "llama_yarn_rope", "qwen2", "qwen3",
                                           "mistral"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace forja
