// SPDX-License-Identifier: Apache-2.0
// Loss spikes: from samples of random characters among a text that a small model has learned.
#include "csrc/train/spikes.h"

#include <cmath>

#include "tests/train/trainer_testing.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

// ---- The limits and verdicts

SpikeConfig spike_config(const std::string& action) {
  SpikeConfig config;
  config.action = action;
  config.window = 8;
  config.threshold = 2.0;
  config.patience = 3;
  return config;
}

// A step after those that the state knows.
SpikeVerdict take(const SpikeConfig& config, SpikeState& state, int64_t step, double loss,
                  double norm) {
  StepMetrics m;
  m.step = step;
  m.loss = loss;
  m.gradient_norm = norm;
  set_spike_limits(config, state, m);
  m.skipped = !(norm <= m.gradient_norm_limit) || !std::isfinite(norm);
  return observe_step(config, m, state);
}

TEST(Spikes, LimitIsOfTheLastAcceptedValues) {
  const SpikeConfig config = spike_config("skip");
  EXPECT_EQ(spike_limit(config, {}), INFINITY);
  EXPECT_EQ(spike_limit(config, {1, 2, 3}), INFINITY) << "half of the window is not known";
  // Mean 2.5, variance 5/3.
  EXPECT_DOUBLE_EQ(spike_limit(config, {1, 2, 3, 4}), 2.5 + 2.0 * std::sqrt(5.0 / 3.0));
  SpikeState state;
  for (int64_t step = 1; step <= 20; ++step)
    EXPECT_EQ(take(config, state, step, double(step), double(step % 4)), SpikeVerdict::none);
  EXPECT_EQ(state.losses, (std::vector<double>{13, 14, 15, 16, 17, 18, 19, 20}));
  EXPECT_EQ(state.gradient_norms, (std::vector<double>{1, 2, 3, 0, 1, 2, 3, 0}));
}

TEST(Spikes, SkippedStepsDoNotEnterTheStatistics) {
  const SpikeConfig config = spike_config("skip");
  SpikeState state;
  for (int64_t step = 1; step <= 8; ++step) take(config, state, step, 1.0, double(step % 2));
  const SpikeState before = state;
  EXPECT_EQ(take(config, state, 9, 1.0, 7.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 10, 1e9, 0.5), SpikeVerdict::none) << "of the norm alone";
  EXPECT_EQ(state.gradient_norms.back(), 0.5);
  state = before;
  EXPECT_EQ(take(config, state, 9, 1.0, NAN), SpikeVerdict::none) << "train.non_finite is of that";
  EXPECT_EQ(state, before);
  // What stays is the new level.
  EXPECT_EQ(take(config, state, 10, 1.0, 7.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 11, 1.0, 7.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 12, 1.0, 7.0), SpikeVerdict::new_level);
  for (int64_t step = 13; step <= 30; ++step)
    EXPECT_EQ(take(config, state, step, 1.0, 7.0 + 0.1 * double(step % 2)), SpikeVerdict::none);
}

TEST(Spikes, RollbackAfterAsManyStepsInARow) {
  const SpikeConfig config = spike_config("rollback");
  SpikeState state;
  for (int64_t step = 1; step <= 8; ++step) take(config, state, step, double(step % 2), 1.0);
  EXPECT_EQ(take(config, state, 9, 7.0, 1.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 10, 7.0, 1.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 11, 0.5, 1e9), SpikeVerdict::none) << "of the loss alone";
  EXPECT_EQ(state.began, 0) << "in a row";
  EXPECT_EQ(take(config, state, 12, 7.0, 1.0), SpikeVerdict::beyond);
  EXPECT_EQ(take(config, state, 13, NAN, NAN), SpikeVerdict::none);
  EXPECT_EQ(take(config, state, 14, 7.0, 1.0), SpikeVerdict::rollback);
  EXPECT_EQ(state.began, 12);

  TrainState spike{.step = 14, .samples = 140, .tokens = 1400, .num_updates = 13, .seed = 5};
  spike.spikes = state;
  const TrainState checkpoint{.step = 4, .samples = 40, .tokens = 400, .num_updates = 4, .seed = 5};
  TrainState after = state_after_rollback(checkpoint, spike);
  EXPECT_EQ(after.step, 4);
  EXPECT_EQ(after.samples, 140);
  EXPECT_EQ(after.tokens, 400);
  EXPECT_EQ(after.num_updates, 4);
  EXPECT_EQ(after.spikes.rollbacks, 1);
  for (int64_t step = 5; step <= 15; ++step) {
    EXPECT_EQ(after.spikes.rollbacks, 1) << "the spike at 14 is not passed at " << step;
    take(config, after.spikes, step, double(step % 2), 1.0);
  }
  EXPECT_EQ(after.spikes.rollbacks, 0);
}

TEST(Spikes, NoneKeepsNothing) {
  SpikeState state{.losses = {1.0}, .gradient_norms = {1.0}, .began = 3};
  EXPECT_EQ(take(spike_config("none"), state, 4, 1e9, 1e9), SpikeVerdict::none);
  EXPECT_EQ(state, SpikeState{});
}

TEST(Spikes, RollbackNeedsCheckpoints) {
  for (const char* checkpoint : {"{every: 0}", "{every: 5, keep_last: 2}"}) {
    const std::string text = fmt::format(
        "{{train: {{steps: 1, spikes: {{action: rollback}}}}, checkpoint: {}}}", checkpoint);
    EXPECT_NE(
        testing::error_of([&] { read_run_config_text(text, "run.yaml"); }, ExitCode::bad_input)
            .find("rollback needs checkpoints from before a spike"),
        std::string::npos);
  }
}

// ---- Whole runs

class SpikesTest : public TrainerTest {
 protected:
  SpikesTest() {
    std::mt19937 random(7);
    std::string text;
    for (int i = 0; i < 3000; ++i) text += char('!' + random() % 90);
    write_file(folder_.file("garbage.txt"), text);
    tokenize_files({folder_.file("garbage.txt")}, folder_.file("tokenizer.json"),
                   folder_.file("garbage"), {}, {});
  }

  // One sample of 68 is garbage: of steps 17 and 51.
  RunConfig spiky(const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(),
                {"data.train=[{path: data, weight: 0.985}, {path: garbage, weight: 0.015}]",
                 "train={steps: 60, global_batch_size: 2}", "eval.every=0", "checkpoint.every=5",
                 "optimizer={lr: 1e-2, schedule: {name: constant}}"});
    return config(name, more);
  }
  // All of it, or none.
  RunConfig all_of(const std::string& name, const std::string& data, int64_t steps) {
    return spiky(
        name, {fmt::format("data.train=[{{path: {}}}]", data), kRollback, "train.spikes.patience=3",
               "train.spikes.max_rollbacks=2", fmt::format("train.steps={}", steps)});
  }

  std::string checkpoint(const std::string& name, int64_t step) {
    return folder_.file(name) + "/checkpoints/" + checkpoint_name(step);
  }
  int64_t newest_step(const std::string& name) {
    return step_of_checkpoint(*latest_checkpoint(folder_.file(name) + "/checkpoints"));
  }
  // ... of the lines of steps.
  std::vector<nlohmann::json> steps_of(const std::string& name) {
    std::vector<nlohmann::json> out;
    for (const auto& line : metrics(name))
      if (line.contains("loss")) out.push_back(line);
    return out;
  }
  void expect_steps_once(const std::string& name, size_t count) {
    const auto lines = steps_of(name);
    ASSERT_EQ(lines.size(), count);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(lines[i]["step"], int64_t(i) + 1);
  }

  static constexpr const char* kSkip = "train.spikes={action: skip, window: 16}";
  static constexpr const char* kRollback =
      "train.spikes={action: rollback, window: 16, patience: 1}";
};

// Its limits are those of its norms; what it skips changes nothing; and the window is in its
// checkpoints: the spike at step 51 comes six steps after the one from which the run goes on.
TEST_F(SpikesTest, SkippingSurvivesAResumeBitwise) {
  for (const int ranks : {1, 2}) {
    const std::string name = fmt::format("skip{}", ranks);
    ::testing::internal::CaptureStderr();
    run(ranks, spiky(name, {kSkip}));
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("step 51 changed nothing: its gradient norm"), std::string::npos) << log;
    std::vector<double> accepted;
    int64_t skipped = 0;
    const auto lines = steps_of(name);
    for (const auto& line : lines) {
      const double norm = line["grad_norm"],
                   limit = line.value("grad_norm_limit", double(INFINITY));
      const SpikeConfig config{.action = "skip", .window = 16};
      EXPECT_EQ(limit, spike_limit(config, accepted)) << line.dump();
      EXPECT_EQ(line["skipped"].get<bool>(), norm > limit) << line.dump();
      skipped += line["skipped"].get<bool>();
      if (norm > limit) continue;
      accepted.push_back(norm);
      if (accepted.size() > 16) accepted.erase(accepted.begin());
    }
    EXPECT_TRUE(lines.at(50)["skipped"].get<bool>());
    EXPECT_EQ(read_checkpoint_state(checkpoint(name, 60)).num_updates, 60 - skipped);
    EXPECT_NE(log.find(fmt::format("done: 60 steps ({} of them skipped)", skipped)),
              std::string::npos)
        << log;

    const auto expected = weights(name, 60);
    for (int64_t step = 50; step <= 60; step += 5) fs::remove_all(checkpoint(name, step));
    run(ranks, spiky(name, {kSkip}));
    EXPECT_EQ(weights(name, 60), expected);
    const auto again = steps_of(name);
    ASSERT_EQ(again.size(), 60u);
    for (size_t i = 0; i < 60; ++i) {
      for (const char* key : {"loss", "grad_norm", "grad_norm_limit", "skipped"})
        EXPECT_EQ(again[i].value(key, nlohmann::json()), lines[i].value(key, nlohmann::json()));
    }
  }
}

// The run that went back is bitwise the run of its checkpoint with the data after the spike.
TEST_F(SpikesTest, RollbackGoesOnWithTheDataAfterTheSpike) {
  for (const int ranks : {1, 2}) {
    const std::string name = fmt::format("back{}", ranks), by_hand = name + "-by-hand";
    ::testing::internal::CaptureStderr();
    // With ZeRO, weights are still on their way to other ranks when the run goes back.
    const std::string zero = fmt::format("parallel.zero={}", ranks == 1 ? 0 : 2);
    run(ranks, spiky(name, {kRollback, zero}));
    const std::string log = ::testing::internal::GetCapturedStderr();
    // Step 50 left the weights whose loss was above the limit: they are not from before the spike.
    EXPECT_NE(log.find("back to step 45, and on with the data after sample 102 (rollback 1 of at "
                       "most 3"),
              std::string::npos)
        << log;
    expect_steps_once(name, 60);
    EXPECT_EQ(steps_of(name).at(46)["rollbacks"], 1);
    EXPECT_FALSE(steps_of(name).at(54).contains("rollbacks"));
    const TrainState end = read_checkpoint_state(checkpoint(name, 60));
    EXPECT_EQ(end.samples, 102 + 2 * 15);
    EXPECT_EQ(end.tokens, 60 * 2 * 32);
    EXPECT_EQ(end.num_updates, 60);
    EXPECT_EQ(read_checkpoint_state(checkpoint(name, 50)).samples, 102 + 2 * 5);

    if (ranks == 1) continue;
    run(ranks, spiky(by_hand, {zero, "train.steps=45"}));
    TrainState moved = read_checkpoint_state(checkpoint(by_hand, 45));
    moved.samples = 102;
    replace_checkpoint_state(checkpoint(by_hand, 45), moved);
    run(ranks, spiky(by_hand, {zero}));
    EXPECT_EQ(weights(name, 60), weights(by_hand, 60));
    EXPECT_EQ(losses(name), losses(by_hand));
  }
}

// As if killed after step 51, or in its rollback when the checkpoint of the spike is gone already:
// it comes to the same rollback, bitwise.
TEST_F(SpikesTest, ARunKilledBeforeItsRollbackComesToIt) {
  run(1, spiky("whole", {kRollback}));
  for (const int64_t step : {50, 45}) {
    const std::string name = fmt::format("killed{}", step);
    run(1, spiky(name, {kRollback, fmt::format("train.steps={}", step)}));
    run(1, spiky(name, {kRollback}));
    expect_steps_once(name, 60);
    EXPECT_EQ(read_checkpoint_state(checkpoint(name, 60)).samples, 102 + 2 * 15);
    EXPECT_EQ(weights(name, 60), weights("whole", 60));
  }
}

// The end of a run that falls into a spike is saved; when it goes on it is still in the spike. What
// was saved in it goes, `latest` names what is left, and a run that fails on it fails again, but
// not with better data.
TEST_F(SpikesTest, GivesUpASpikeThatOtherDataDoesNotEnd) {
  run(2, all_of("bad", "data", 40));
  run(2, all_of("bad", "garbage", 42));
  EXPECT_EQ(read_checkpoint_state(checkpoint("bad", 42)).spikes.began, 41);
  const auto fail_again = [&] {
    const std::string message =
        testing::error_of([&] { run(2, all_of("bad", "garbage", 60)); }, ExitCode::failed);
    EXPECT_NE(message.find("again, after 2 rollbacks"), std::string::npos) << message;
    EXPECT_EQ(newest_step("bad"), 35) << "no checkpoint of the spike is left";
    EXPECT_EQ(fs::read_symlink(folder_.file("bad") + "/checkpoints/latest"), checkpoint_name(35));
  };
  fail_again();
  const TrainState state = read_checkpoint_state(checkpoint("bad", 35));
  EXPECT_EQ(state.spikes.rollbacks, 2);
  EXPECT_EQ(state.spikes.rolled_back_to, 35);
  // Three steps from 40 on, and three from 35 on after the first rollback.
  EXPECT_EQ(state.samples, 2 * (43 + 3));
  fail_again();
  run(2, all_of("bad", "data", 60));
  expect_steps_once("bad", 60);
  EXPECT_EQ(read_checkpoint_state(checkpoint("bad", 60)).spikes.rollbacks, 0);
}

// Checkpoints of steps 41 and 42 would push out that of 39.
TEST_F(SpikesTest, NothingIsSavedThatPushesOutWhatToGoBackTo) {
  const auto run_on = [&](const std::string& data, int64_t steps) {
    RunConfig c = all_of("kept", data, steps);
    c.checkpoint.every = 1;
    c.checkpoint.keep_last = 3;
    run(1, c);
  };
  run_on("data", 40);
  const std::string message = testing::error_of([&] { run_on("garbage", 60); });
  EXPECT_NE(message.find("again, after 2 rollbacks"), std::string::npos) << message;
  EXPECT_EQ(newest_step("kept"), 39);
}

TEST_F(SpikesTest, GoesOnWhereThereIsNothingToGoBackTo) {
  ::testing::internal::CaptureStderr();
  run(1, spiky("early", {kRollback, "checkpoint.every=50"}));
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("there is no checkpoint from before step 51 to go back to"), std::string::npos)
      << log;
  expect_steps_once("early", 60);
}

}  // namespace
}  // namespace forja
