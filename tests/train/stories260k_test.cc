// SPDX-License-Identifier: Apache-2.0
// A real pretrained Llama (GQA) against fp64 references: 200 greedy steps, and loss, gradients and
// weights of training.
#include <cmath>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/train/engine.h"
#include "forja/train/generator.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

constexpr const char* kFolder = "weights/stories260K";

TEST(Stories260K, TwoHundredGreedySteps) {
  FORJA_REQUIRE_ASSET(folder, kFolder);
  const SafetensorsFile reference(folder + "/ref_greedy.safetensors");
  const auto ids = testing::to_doubles(reference.tensor("ids"));
  const Tensor expected = reference.tensor("logits");
  Generator generator(
      read_model_config(folder + "/config.json"), DType::f32, 1, 201,
      [&](const Context& ctx, ParameterStore& store) { load_hf_weights(ctx, folder, store); });
  double worst = 0.0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const Tensor logits = generator.append({{0, {int32_t(ids[i])}}});
    const auto found = testing::to_doubles(logits),
               wanted = testing::to_doubles(expected.select(0, int64_t(i)));
    for (size_t j = 0; j < wanted.size(); ++j)
      worst = std::max(worst, std::fabs(found[j] - wanted[j]));
    ASSERT_EQ(sample_token(logits.select(0, 0), {.temperature = 0.0}, 0, 0), int32_t(ids[i + 1]))
        << "step " << i;
  }
  EXPECT_LT(worst, 1e-3);
}

// A whole prompt at once gives the logits of one token at a time.
TEST(Stories260K, PrefillEqualsSteps) {
  FORJA_REQUIRE_ASSET(folder, kFolder);
  const auto load = [&](const Context& ctx, ParameterStore& store) {
    load_hf_weights(ctx, folder, store);
  };
  const ModelConfig model = read_model_config(folder + "/config.json");
  const std::vector<int32_t> prompt = {1, 403, 407, 261, 378, 320};
  Generator whole(model, DType::f32, 2, 32, load), single(model, DType::f32, 1, 32, load);
  const Tensor both = whole.append({{0, prompt}, {1, {1, 400}}});
  Tensor last;
  for (int32_t id : prompt) last = single.append({{0, {id}}});
  const auto a = testing::to_doubles(both.select(0, 0)), b = testing::to_doubles(last.select(0, 0));
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4);
}

// Where our parameters stand in the reference: name, layer, first row of ours, number of rows.
struct Place {
  std::string name;
  int64_t layer, row, rows;
  bool rotary;  // rows of rotary pairs lie side by side there, half a head apart here
};

std::vector<Place> places(const std::string& name) {
  if (name == "embedding.weight") return {{"tok_embeddings.weight", -1, 0, 512, false}};
  if (name == "final_norm.weight") return {{"norm.weight", -1, 0, 64, false}};
  const int64_t layer = name[7] - '0';
  const std::string part = name.substr(9);
  if (part == "attention_norm.weight") return {{"attention_norm.weight", layer, 0, 64, false}};
  if (part == "mlp_norm.weight") return {{"ffn_norm.weight", layer, 0, 64, false}};
  if (part == "attention.output.weight") return {{"wo.weight", layer, 0, 64, false}};
  if (part == "mlp.down.weight") return {{"w2.weight", layer, 0, 64, false}};
  if (part == "mlp.up.weight")
    return {{"w1.weight", layer, 0, 172, false}, {"w3.weight", layer, 172, 172, false}};
  return {{"wq.weight", layer, 0, 64, true},
          {"wk.weight", layer, 64, 32, true},
          {"wv.weight", layer, 96, 32, false}};
}

int64_t stored_row(const Place& place, int64_t row) {
  constexpr int64_t kHead = 8;
  if (!place.rotary) return row;
  const int64_t head = row / kHead * kHead, i = row % kHead;
  return head + (i < kHead / 2 ? 2 * i : 2 * (i - kHead / 2) + 1);
}

// Ours and theirs of one place, row by row.
void collect(const SafetensorsFile& reference, const std::string& kind, const Place& place,
             const Tensor& ours, std::vector<double>* found, std::vector<double>* expected) {
  Tensor theirs = reference.tensor(kind + "." + place.name);
  if (place.layer >= 0) theirs = theirs.select(0, place.layer);
  if (ours.rank == 1) {
    *found = testing::to_doubles(ours);
    *expected = testing::to_doubles(theirs);
    return;
  }
  for (int64_t r = 0; r < place.rows; ++r) {
    for (double x : testing::to_doubles(ours.select(0, place.row + r))) found->push_back(x);
    for (double x : testing::to_doubles(theirs.select(0, stored_row(place, r))))
      expected->push_back(x);
  }
}

TEST(Stories260K, LossGradientsAndTenAdamWSteps) {
  FORJA_REQUIRE_ASSET(folder, kFolder);
  const SafetensorsFile reference(folder + "/ref_train.safetensors");
  const auto json = nlohmann::json::parse(read_file(folder + "/ref_train.json"));
  EngineConfig config;
  config.model = read_model_config(folder + "/config.json");
  config.micro_batch_size = 4;
  config.sequence_length = 64;
  config.optimizer.lr = 1e-3;
  config.optimizer.clip_norm = 1.0;
  const auto self = make_self_communicator();
  Mesh mesh = make_mesh(*self, ParallelDims{});
  const MemoryPlan plan = TrainEngine::plan(config);
  TrainEngine engine(config, mesh, &plan);
  load_hf_weights(engine.context(), folder, engine.store());

  // Gradients tensor by tensor; weights as a whole model, and each element against the learning
  // rate: AdamW divides by very small second moments.
  const auto compare = [&](const std::string& kind, auto tensor_of, bool tensor_by_tensor,
                           double element_bound) {
    std::vector<double> all_found, all_expected;
    for (const auto& p : engine.store().all()) {
      for (const Place& place : places(p->spec.name)) {
        std::vector<double> found, expected;
        collect(reference, kind, place, testing::shaped(*p, tensor_of(*p)), &found, &expected);
        if (tensor_by_tensor) {
          EXPECT_LT(testing::relative_norm(found, expected), 1e-5) << kind << " " << p->spec.name;
        }
        for (size_t i = 0; i < found.size(); ++i)
          ASSERT_NEAR(found[i], expected[i], element_bound) << p->spec.name;
        all_found.insert(all_found.end(), found.begin(), found.end());
        all_expected.insert(all_expected.end(), expected.begin(), expected.end());
      }
    }
    EXPECT_LT(testing::relative_norm(all_found, all_expected), 1e-5) << kind;
  };
  for (int64_t s = 1; s <= 10; ++s) {
    const StepResult result = engine.step(
        s, 1e-3, 1,
        [&](int64_t, const MicroBatch& b) {
          return testing::fill_batch(b, reference.tensor("inputs"), reference.tensor("targets"));
        },
        [](int64_t) { return int64_t(0); });
    const double loss = json["losses_before_each_step_0_to_10"][size_t(s - 1)];
    const double norm = json["grad_norm_before_clip"][size_t(s - 1)];
    EXPECT_NEAR(result.loss, loss, 1e-5 * loss + 1e-6) << "step " << s;
    EXPECT_NEAR(result.gradient_norm, norm, 1e-4 * norm) << "step " << s;
    const auto master = [](const Parameter& p) { return p.master; };
    if (s == 1)
      compare(
          "grad", [](const Parameter& p) { return p.gradient; }, true, 1e-4);
    if (s == 1) compare("step1", master, false, 1e-3);
    if (s == 10) compare("step10", master, false, 1e-3);
  }
}

}  // namespace
}  // namespace forja
