// SPDX-License-Identifier: Apache-2.0
// Runs a pipeline schedule on ranks that are threads and sleep instead of computing: what the
// executor does to a schedule, without a model.
#pragma once

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <thread>

#include "forja/base/error.h"
#include "forja/parallel/simulator.h"
#include "forja/train/executor.h"
#include "tests/testing/local_world.h"

namespace forja::testing {

// Times in seconds since the ranks began.
struct PipelineRun {
  std::vector<std::vector<TimedAction>> timeline;  // [P], computing, in the order in which it ran
  std::vector<int> peak_by_rank;  // micro-batches alive, summed over a rank's stages

  double makespan() const {
    double end = 0.0;
    for (const auto& actions : timeline) end = std::max(end, actions.back().end);
    return end;
  }
  double bubble_fraction() const {
    double busy = 0.0;
    for (const auto& actions : timeline)
      for (const TimedAction& a : actions) busy += a.end - a.begin;
    return 1.0 - busy / (double(timeline.size()) * makespan());
  }
};

// One rank. What it hands over says which stage made it of which micro-batch; what it is handed is
// checked.
class SleepingWork : public PipelineWork {
 public:
  using Clock = std::chrono::steady_clock;

  SleepingWork(const Schedule& schedule, int rank, const ActionTimes& times)
      : stages_(schedule.stages_of_rank(rank)), last_(schedule.num_stages() - 1), times_(times) {
    for (const int stage : stages_) {
      const StageNeeds needs = needs_of_stage(schedule, stage);
      values_.emplace_back(size_t(needs.slots) * 3);
      buffers_.emplace_back(size_t(needs.receive_buffers));
    }
  }

  std::vector<std::vector<Tensor>> receive_buffers() {
    std::vector<std::vector<Tensor>> out(buffers_.size());
    for (size_t i = 0; i < buffers_.size(); ++i)
      for (float& value : buffers_[i]) out[i].push_back(make_tensor(&value, DType::f32, {1}));
    return out;
  }
  void start(Clock::time_point time) { start_ = time; }

  Transfers open_slot(int local, int slot) override {
    const auto value = [&](int i) {
      return make_tensor(&values_[size_t(local)][size_t(slot * 3 + i)], DType::f32, {1});
    };
    return {value(0), value(1), value(2)};
  }

  void forward(int local, int slot, int m, const Tensor& input) override {
    const int stage = stages_[size_t(local)];
    peak_ = std::max(peak_, ++alive_);
    if (stage > 0) check(*input.ptr<float>(), stage - 1, m);
    sleep({ActionKind::forward, stage, m}, times_.forward);
    values_[size_t(local)][size_t(slot * 3)] = tag(stage, m);
  }

  void backward(int local, int slot, int m, BackwardPart part, bool) override {
    const int stage = stages_[size_t(local)];
    float* const values = &values_[size_t(local)][size_t(slot * 3)];
    if (part != BackwardPart::weight && stage < last_) check(values[1], stage + 1, m);
    if (part == BackwardPart::both)
      sleep({ActionKind::backward, stage, m}, times_.backward_input + times_.backward_weight);
    if (part == BackwardPart::input)
      sleep({ActionKind::backward_input, stage, m}, times_.backward_input);
    if (part == BackwardPart::weight)
      sleep({ActionKind::backward_weight, stage, m}, times_.backward_weight);
    if (part != BackwardPart::weight) values[2] = tag(stage, m);
    if (part != BackwardPart::input) --alive_;
  }

  void reduce_gradients(int) override {}

  const std::vector<TimedAction>& timeline() const { return timeline_; }
  int peak() const { return peak_; }

 private:
  static float tag(int stage, int m) { return float(stage * 1024 + m + 1); }
  static void check(float value, int stage, int m) {
    FORJA_CHECK(value == tag(stage, m), "expected micro-batch {} of stage {}, found {}", m, stage,
                value);
  }
  double now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  void sleep(const Action& action, double seconds) {
    if (!times_.stage_scale.empty()) seconds *= times_.stage_scale[size_t(action.stage)];
    const double begin = now();
    std::this_thread::sleep_until(start_ + std::chrono::ceil<Clock::duration>(
                                               std::chrono::duration<double>(begin + seconds)));
    timeline_.push_back({action, begin, now()});
  }

  std::vector<int> stages_;
  int last_;
  ActionTimes times_;
  // By stage and slot: output, its gradient, gradient of the input.
  std::vector<std::vector<float>> values_, buffers_;
  std::vector<TimedAction> timeline_;
  int alive_ = 0, peak_ = 0;
  Clock::time_point start_;
};

// `times` in seconds; transfers take what they take.
inline PipelineRun run_sleeping(const Schedule& schedule, const ActionTimes& times) {
  PipelineRun run;
  run.timeline.resize(size_t(schedule.num_ranks()));
  run.peak_by_rank.resize(size_t(schedule.num_ranks()));
  run_world(schedule.num_ranks(), [&](World& world) {
    Communicator& pp = world.communicator();
    Arena workspace("workspace", Device{}, Arena::kAlignment);
    const Context context{Device{}, &workspace};
    TimeSplit split;
    SleepingWork work(schedule, pp.rank(), times);
    PipelineExecutor executor(schedule, pp, context, split, work, work.receive_buffers());
    pp.barrier({"start"}).wait();
    // One clock: that of the first rank to start.
    int64_t start = SleepingWork::Clock::now().time_since_epoch().count();
    pp.all_reduce(make_tensor(&start, DType::i64, {1}), ReduceOp::min, {"start"}).wait();
    work.start(SleepingWork::Clock::time_point(SleepingWork::Clock::duration(start)));
    executor.run(schedule, 1);
    run.timeline[size_t(pp.rank())] = work.timeline();
    run.peak_by_rank[size_t(pp.rank())] = work.peak();
  });
  return run;
}

// Stages of equal parts of a model that takes `times` on each of P ranks.
inline ActionTimes times_of_equal_stages(ActionTimes times, const Schedule& schedule) {
  times.stage_scale.assign(size_t(schedule.num_stages()),
                           double(schedule.num_ranks()) / schedule.num_stages());
  return times;
}

}  // namespace forja::testing
