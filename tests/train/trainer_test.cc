// SPDX-License-Identifier: Apache-2.0
// Whole runs on a small model: any number of ranks gives the same losses, a resumed run is bitwise
// the run that never stopped, and what goes wrong is said.
#include <cmath>

#include "csrc/train/non_finite.h"
#include "forja/train/engine.h"
#include "tests/train/trainer_testing.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

TEST_F(TrainerTest, AnyNumberOfRanksGivesTheSameLosses) {
  run(1, config("one"));
  const auto expected = losses("one");
  ASSERT_EQ(expected.size(), 8u);
  EXPECT_LT(expected.back(), expected.front() - 1.0) << "it learns";
  for (int ranks : {2, 4}) {
    const std::string name = "ranks" + std::to_string(ranks);
    run(ranks, config(name));
    const auto found = losses(name);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], 1e-5 * expected[i]) << ranks << " ranks";
  }
}

TEST_F(TrainerTest, MicroBatchesGiveTheSameLosses) {
  run(1, config("whole", {"train.micro_batch_size=8"}));
  run(1, config("single", {"train.micro_batch_size=1"}));
  const auto a = losses("whole"), b = losses("single");
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * a[i]);
}

TEST_F(TrainerTest, ResumeIsBitwiseTheRunThatNeverStopped) {
  for (const char* precision : {"fp32", "bf16"}) {
    const std::string p = std::string("train.precision=") + precision,
                      whole = std::string("whole-") + precision,
                      parts = std::string("parts-") + precision;
    // The schedule depends on the length: the shorter part must know it. So it is stopped by
    // removing its end.
    run(2, config(whole, {p, "model.dropout=0.1"}));
    run(2, config(parts, {p, "model.dropout=0.1"}));
    fs::remove_all(folder_.file(parts) + "/checkpoints/" + checkpoint_name(8));
    run(2, config(parts, {p, "model.dropout=0.1"}));
    EXPECT_EQ(weights(whole, 8), weights(parts, 8));
    EXPECT_EQ(losses(whole), losses(parts)) << "no gap and no doubled step in metrics.jsonl";
    EXPECT_EQ(metrics(whole).size(), metrics(parts).size());
    // And on another number of ranks: equal to fp32 accuracy.
    fs::remove_all(folder_.file(parts) + "/checkpoints/" + checkpoint_name(8));
    run(1, config(parts, {p, "model.dropout=0.1"}));
    const double tolerance = std::string(precision) == "fp32" ? 1e-5 : 1e-2;
    EXPECT_NEAR(losses(whole).back(), losses(parts).back(), tolerance * losses(whole).back());
  }
}

// The default betas but for the second one, with which moments rounded to nearest stall.
TEST_F(TrainerTest, Bf16MomentsFollowTheLossesOfFp32Ones) {
  const auto losses_with = [&](const std::string& name, const std::string& moments, bool random) {
    run(1, config(name, {"train.steps=60", "optimizer.betas=[0.9, 0.999]", "eval.every=0",
                         "checkpoint.every=0", "optimizer.state_dtype=" + moments,
                         fmt::format("optimizer.stochastic_rounding={}", random)}));
    return losses(name);
  };
  const auto fp32 = losses_with("fp32", "fp32", false);
  const auto worst = [&](const std::vector<double>& found) {
    double out = 0.0;
    for (size_t i = 0; i < fp32.size(); ++i)
      out = std::max(out, std::fabs(found[i] / fp32[i] - 1.0));
    return out;
  };
  const double stochastic = worst(losses_with("stochastic", "bf16", true)),
               nearest = worst(losses_with("nearest", "bf16", false));
  fmt::print(
      "losses {:.3f} to {:.3f}; worst relative difference of a step {:.1e}, to nearest {:.1e}\n",
      fp32.front(), fp32.back(), stochastic, nearest);
  EXPECT_LT(fp32.back(), fp32.front() - 2.0) << "it learns";
  // About 1e-3 was found: a moment's errors, 2^-8 of it and independent, cancel over steps and
  // elements. Truncated moments, whose errors do not, are off by more.
  EXPECT_LT(stochastic, 4e-3);
}

// What is drawn depends on the number of updates, which a checkpoint has; and on the elements, so
// on another number of ranks only what the gradients' last bits change is different.
TEST_F(TrainerTest, ResumeWithBf16MomentsIsBitwiseTheRunThatNeverStopped) {
  const std::vector<std::string> moments = {"optimizer.state_dtype=bf16",
                                            "optimizer.stochastic_rounding=true"};
  run(2, config("whole", moments));
  run(2, config("parts", moments));
  const auto expected = weights("whole", 8);
  fs::remove_all(folder_.file("parts") + "/checkpoints/" + checkpoint_name(8));
  run(2, config("parts", moments));
  EXPECT_EQ(expected, weights("parts", 8));
  EXPECT_EQ(losses("whole"), losses("parts"));
  const std::string path = folder_.file("whole") + "/checkpoints/" + checkpoint_name(8);
  EXPECT_EQ(checkpoint_moment_dtype(path), DType::bf16);
  EXPECT_NE(describe_checkpoint(path, true).find("bf16 moments"), std::string::npos);
  fs::remove_all(folder_.file("parts") + "/checkpoints/" + checkpoint_name(8));
  run(1, config("parts", moments));
  EXPECT_NEAR(losses("whole").back(), losses("parts").back(), 1e-4 * losses("whole").back());
}

// A run goes on with moments of the other dtype: of bf16 ones as they are, of fp32 ones rounded.
TEST_F(TrainerTest, MomentsAreConvertedWhenARunGoesOnInTheOtherDtype) {
  for (const std::string from : {"fp32", "bf16"}) {
    const std::string to = from == "fp32" ? "bf16" : "fp32", name = "from-" + from;
    run(2, config(name, {"optimizer.state_dtype=" + from}));
    const auto expected = losses(name);
    fs::remove_all(folder_.file(name) + "/checkpoints/" + checkpoint_name(8));
    ::testing::internal::CaptureStderr();
    run(2, config(name, {"optimizer.state_dtype=" + to}));
    const std::string log = ::testing::internal::GetCapturedStderr();
    const std::string line = "(step 4), its " + from + " moments converted to " + to;
    EXPECT_NE(log.find(line), std::string::npos) << log;
    const auto found = losses(name);
    ASSERT_EQ(found.size(), 8u);
    EXPECT_NE(found.back(), expected.back());
    EXPECT_NEAR(found.back(), expected.back(), 1e-2 * expected.back());
  }
}

TEST_F(TrainerTest, AFinishedRunIsLeftAlone) {
  run(1, config("done"));
  const std::string before = read_file(folder_.file("done") + "/metrics.jsonl");
  run(1, config("done"));
  EXPECT_EQ(read_file(folder_.file("done") + "/metrics.jsonl"), before);
  run(1, config("done", {"train.steps=9"}));
  EXPECT_EQ(losses("done").size(), 9u) << "a longer run continues";
}

TEST_F(TrainerTest, ADirectoryOfAnotherRunIsRefused) {
  run(1, config("taken"));
  const std::string message = testing::error_of(
      [&] { run(2, config("taken", {"optimizer.lr=0.5"})); }, ExitCode::bad_input);
  EXPECT_NE(message.find("already holds another run: \"optimizer\" differs"), std::string::npos)
      << message;
  EXPECT_NE(testing::error_of([&] { run(1, config("taken", {"train.resume=never"})); },
                              ExitCode::bad_input)
                .find("train.resume is never"),
            std::string::npos);
}

TEST_F(TrainerTest, NonFiniteGradientStopsWithItsName) {
  // A learning rate this large makes the weights overflow within a few steps.
  const std::vector<std::string> wild = {"optimizer.lr=1e38",
                                         "optimizer.schedule={name: constant}"};
  const std::string message = testing::error_of([&] { run(2, config("wild", wild)); });
  EXPECT_NE(message.find("the gradient is not finite"), std::string::npos) << message;
  EXPECT_NE(message.find("first in embedding.weight, element"), std::string::npos) << message;
  EXPECT_FALSE(latest_checkpoint(folder_.file("wild") + "/checkpoints"))
      << "nothing wrong is saved";
  std::vector<std::string> onward = wild;
  onward.push_back("train.non_finite=continue");
  run(1, config("onward", onward));
  EXPECT_EQ(metrics("onward").back()["step"], 8);
  EXPECT_TRUE(metrics("onward").at(6)["skipped"]);
}

TEST_F(TrainerTest, BatchRampAndTokenLength) {
  const RunConfig c = config("ramp", {"train.batch_ramp={start: 2, steps: 4}", "train.steps=0",
                                      "train.tokens=1500", "train.micro_batch_size=1"});
  EXPECT_EQ(batch_size_of_step(c.train, 1), 2);
  EXPECT_EQ(batch_size_of_step(c.train, 3), 4);
  EXPECT_EQ(batch_size_of_step(c.train, 4), 6);
  EXPECT_EQ(samples_before_step(c.train, 6), 2 + 2 + 4 + 6 + 8);
  EXPECT_EQ(batch_size_of_step(c.train, 5), 8);
  run(2, c);
  int64_t tokens = 0;
  for (const auto& line : metrics("ramp")) tokens = line.value("tokens", tokens);
  EXPECT_GE(tokens, 1500);
  EXPECT_LT(tokens, 1500 + 8 * 32);
}

TEST_F(TrainerTest, WhatDoesNotFitIsSaidWithEveryFactor) {
  EXPECT_EQ(testing::error_of([&] { run(3, config("x")); }, ExitCode::bad_input),
            "a batch of 8 sequences does not divide over dp = 3 ranks");
  EXPECT_NE(testing::error_of([&] { run(2, config("x", {"train.micro_batch_size=3"})); },
                              ExitCode::bad_input)
                .find("dp 2 x micro_batch_size 3"),
            std::string::npos);
  EXPECT_NE(
      testing::error_of([&] { run(1, config("x", {"model.vocab_size=100"})); }, ExitCode::bad_input)
          .find("100"),
      std::string::npos);
  EXPECT_NE(testing::error_of([&] { run(1, config("x", {"data.train=[{path: /nowhere}]"})); },
                              ExitCode::bad_input)
                .find("/nowhere"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.file("x"))) << "nothing half-written";
}

TEST_F(TrainerTest, UnwritableRunDirectory) {
  EXPECT_NE(testing::error_of([&] { run(1, config("x", {"output=/proc/forja-run"})); },
                              ExitCode::bad_input)
                .find("/proc/forja-run"),
            std::string::npos);
}

TEST_F(TrainerTest, DamagedCheckpointIsNamed) {
  run(1, config("damaged"));
  const std::string path = folder_.file("damaged") + "/checkpoints/" + checkpoint_name(8);
  EXPECT_NE(describe_checkpoint(path, true).find("every checksum is right"), std::string::npos);
  std::string bytes = read_file(path + "/shard-00000.safetensors");
  bytes[bytes.size() - 3] ^= 1;
  write_file(path + "/shard-00000.safetensors", bytes);
  EXPECT_NE(testing::error_of([&] { describe_checkpoint(path, true); }, ExitCode::bad_input)
                .find("is damaged: checksum"),
            std::string::npos);
  write_file(path + "/shard-00000.safetensors", bytes.substr(0, 1000));
  EXPECT_NE(testing::error_of([&] { describe_checkpoint(path, false); }, ExitCode::bad_input)
                .find("missing or truncated: expected"),
            std::string::npos);
}

// An engine of its own, and a batch that is always the same.
class EngineTest : public TrainerTest {
 protected:
  EngineTest() : self_(make_self_communicator()), mesh_(make_mesh(*self_, ParallelDims{})) {
    engine_.model = config("engine").model;
    engine_.micro_batch_size = 2;
    engine_.num_microbatches = 4;
    engine_.sequence_length = 32;
  }
  static Tensor fill(int64_t, const MicroBatch& b) {
    for (int64_t i = 0; i < b.tokens.size(0); ++i) {
      b.tokens.ptr<int32_t>()[i] = int32_t(i * 7 % 400);
      b.targets.ptr<int32_t>()[i] = int32_t((i + 1) * 7 % 400);
      b.positions.ptr<int32_t>()[i] = int32_t(i % 32);
    }
    const int32_t rows[] = {0, 32, 0, 32, 32, 32, 32, 32};
    std::copy(rows, rows + 8, b.sequences.ptr<int32_t>());
    return b.sequences;
  }
  static int64_t first_row(int64_t) { return 0; }

  EngineConfig engine_;
  std::unique_ptr<Communicator> self_;
  Mesh mesh_;
};

TEST_F(EngineTest, PlannedMemoryIsExact) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    engine_.compute_dtype = dtype;
    const MemoryPlan plan = TrainEngine::plan(engine_);
    TrainEngine real(engine_, mesh_, &plan);
    real.store().initialize(real.context(), 1);
    real.step(1, 1e-3, 4, fill, first_row);
    real.evaluate(1, fill);
    const MemoryPlan used = real.memory_used();
    EXPECT_EQ(used.total(), plan.total());
    EXPECT_EQ(used.workspace, plan.workspace);
    EXPECT_EQ(used.activations(), plan.activations());
  }
}

TEST_F(EngineTest, NonFiniteGradientNeverReachesTheWeights) {
  const MemoryPlan plan = TrainEngine::plan(engine_);
  TrainEngine engine(engine_, mesh_, &plan);
  engine.store().initialize(engine.context(), 1);
  engine.step(1, 1e-3, 4, fill, first_row);
  float* poisoned = engine.store().find("layers.1.mlp.down.weight")->master.ptr<float>();
  const float saved = *poisoned;
  *poisoned = INFINITY;
  const auto snapshot = [&] {
    std::string bytes;
    for (const auto& p : engine.store().all()) {
      for (const Tensor& t : {p->master, p->first_moment, p->second_moment}) {
        bytes.append(static_cast<const char*>(t.data), size_t(t.num_bytes()));
      }
    }
    return bytes;
  };
  const std::string before = snapshot();
  const StepResult result = engine.step(2, 1e-3, 4, fill, first_row);
  EXPECT_TRUE(result.skipped);
  EXPECT_TRUE(snapshot() == before) << "no bit has changed";
  EXPECT_EQ(engine.optimizer().num_updates(), 1);
  EXPECT_NE(first_non_finite(engine.context(), engine.store(), NonFinite::sum), "");
  *poisoned = saved;
  EXPECT_FALSE(engine.step(3, 1e-3, 4, fill, first_row).skipped);
  EXPECT_EQ(engine.optimizer().num_updates(), 2);
}

}  // namespace
}  // namespace forja
