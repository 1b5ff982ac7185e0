// SPDX-License-Identifier: Apache-2.0
// Every layout trains as one rank does: tp, pp, dp, ZeRO, schedules, recompute, in all combinations
// on up to 8 ranks (threads of this process). A sample of them here; all with FORJA_ALL_LAYOUTS=1.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "forja/base/file.h"
#include "forja/base/philox.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"
#include "tests/train/run_layout.h"

namespace forja {
namespace {

double relative(double found, double expected) { return std::fabs(found / expected - 1.0); }

// The worst of all relative errors.
double compare(const Result& found, const Result& expected, const std::string& name,
               double weight_bound = 1e-5) {
  double worst = std::max(relative(found.evaluation, expected.evaluation),
                          relative(found.margin, expected.margin));
  for (size_t s = 0; s < expected.losses.size(); ++s) {
    worst = std::max({worst, relative(found.losses[s], expected.losses[s]),
                      relative(found.norms[s], expected.norms[s])});
  }
  EXPECT_LT(worst, 1e-5) << name;
  EXPECT_TRUE(found.initial == expected.initial) << name << ": initial weights";
  EXPECT_EQ(found.final.size(), expected.final.size()) << name;
  std::vector<double> ours, theirs;
  for (const auto& [parameter, values] : expected.final) {
    // The true gradient of key biases is zero: AdamW turns rounding noise there into steps.
    if (parameter.ends_with("qkv.bias")) continue;
    const auto& other = found.final.at(parameter);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::fabs(other[i] - values[i]) < kLearningRate) continue;
      ADD_FAILURE() << name << ": " << parameter << "[" << i << "] is " << other[i] << ", not "
                    << values[i];
      return worst;
    }
    ours.insert(ours.end(), other.begin(), other.end());
    theirs.insert(theirs.end(), values.begin(), values.end());
  }
  EXPECT_LT(testing::relative_norm(ours, theirs), weight_bound) << name << ": final weights";
  return worst;
}

const Result& reference(bool gpt2, double dropout = 0.0) {
  static std::map<std::pair<bool, double>, Result> results;
  auto [at, is_new] = results.try_emplace({gpt2, dropout});
  if (is_new) at->second = train({.gpt2 = gpt2, .dropout = dropout});
  return at->second;
}

// ---- The matrix

struct ScheduleChoice {
  const char* name;
  int virtual_stages;
};
constexpr ScheduleChoice kSchedules[] = {{"gpipe", 1}, {"1f1b", 1}, {"interleaved_1f1b", 2},
                                         {"zb_h1", 1}, {"zb_v", 1}, {"dualpipe_v", 1}};

// A schedule that needs more micro-batches, or whole rounds of them, says so when it is made.
bool is_possible(const Layout& l) {
  try {
    check_layout(config_of(l), ParallelDims::from(config_of(l).parallel, l.ranks()));
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<Layout> all_layouts() {
  std::vector<Layout> out;
  for (const bool gpt2 : {false, true}) {
    for (const int tp : {1, 2, 4}) {
      for (const int pp : {1, 2, 4}) {
        for (const int dp : {1, 2, 4}) {
          if (tp * pp * dp > 8) continue;
          for (const auto& [schedule, virtual_stages] : kSchedules) {
            if (pp == 1 && std::string(schedule) != "1f1b") continue;
            for (const int zero : {0, 1, 2, 3}) {
              if (dp == 1 && zero > 0) continue;
              for (const char* recompute : {"none", "selective", "full"}) {
                // Hybrid sharding where there is room for it.
                const int shard = zero > 0 && dp == 4 ? 2 : 0;
                const Layout layout{gpt2,           tp,       pp,       dp, zero, shard,
                                    virtual_stages, schedule, recompute};
                if (is_possible(layout)) out.push_back(layout);
              }
            }
          }
        }
      }
    }
  }
  return out;
}

// The same sample in every run: spread over the list by a fixed key.
std::vector<Layout> sample(std::vector<Layout> all, size_t count) {
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < all.size(); ++i) order.push_back({mix_key(3, i), i});
  std::sort(order.begin(), order.end());
  std::vector<Layout> out;
  for (size_t i = 0; i < std::min(count, all.size()); ++i) out.push_back(all[order[i].second]);
  return out;
}

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kSample = 25;  // each is some ten times slower
#else
constexpr size_t kSample = 110;
#endif

TEST(Layout, TrainsAsOneRankDoes) {
  const bool everything = std::getenv("FORJA_ALL_LAYOUTS") != nullptr;
  const std::vector<Layout> all = all_layouts(), layouts = everything ? all : sample(all, kSample);
  double worst = 0.0;
  std::string worst_name;
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.to_string());
    const double error = compare(train(layout), reference(layout.gpt2), layout.to_string());
    if (error > worst) worst_name = layout.to_string();
    if (everything) fmt::print(stderr, "{}: {:.1e}\n", layout.to_string(), error);
    worst = std::max(worst, error);
  }
  fmt::print("{} of {} layouts; worst relative error of a loss or gradient norm {:.1e} ({})\n",
             layouts.size(), all.size(), worst, worst_name);
}

// What the build with ThreadSanitizer runs: every axis, every zero level, a split backward.
TEST(LayoutSample, TrainsAsOneRankDoes) {
  const Layout layouts[] = {
      {.tp = 2, .pp = 2, .dp = 2, .zero = 3, .schedule = "zb_h1"},
      {.tp = 4, .dp = 2, .zero = 2, .recompute = "selective"},
      {.gpt2 = true, .pp = 2, .dp = 4, .zero = 1, .dp_shard = 2, .schedule = "gpipe"},
      {.gpt2 = true, .tp = 2, .pp = 2, .dp = 2, .schedule = "zb_v", .recompute = "full"}};
  for (const Layout& layout : layouts)
    compare(train(layout), reference(layout.gpt2), layout.to_string());
}

TEST(Layout, UnevenStagesRecomputeByLayerAndSchedulesFromFiles) {
  const std::vector<std::string> mixed = {"none", "full", "selective", "none",
                                          "full", "full", "selective", "none"};
  // ZB-H1 of two ranks, written out.
  testing::TemporaryDirectory folder;
  const std::string file = folder.file("own.csv");
  write_file(file, to_csv(make_schedule("zb_h1", 2, 1, 8)));
  const Layout layouts[] = {
      {.gpt2 = true, .tp = 2, .pp = 4, .stage_layers = {1, 3, 3, 1}},
      {.pp = 2,
       .dp = 2,
       .zero = 2,
       .virtual_stages = 2,
       .schedule = "interleaved_1f1b",
       .stage_layers = {3, 1, 1, 3},
       .layer_recompute = mixed},
      {.gpt2 = true, .pp = 2, .dp = 1, .schedule = file, .layer_recompute = mixed},
  };
  for (const Layout& layout : layouts)
    compare(train(layout), reference(layout.gpt2), layout.to_string());
}

TEST(Layout, DropoutIsTheSameInEveryLayout) {
  const Layout layouts[] = {{.gpt2 = true, .tp = 2, .dropout = 0.1},
                            {.gpt2 = true,
                             .pp = 2,
                             .dp = 2,
                             .zero = 1,
                             .schedule = "gpipe",
                             .recompute = "full",
                             .dropout = 0.1}};
  for (const Layout& layout : layouts)
    compare(train(layout), reference(true, 0.1), layout.to_string() + " dropout");
}

// Two layouts round a bf16 moment alike, to nearest or with the same random word, unless their
// sums, which differ by some 1e-6, have a threshold between them. That befalls 1e-6 / 2^-8 of all
// moments in a step and moves each by 2^-8: after ten steps sqrt(10 x 3e-4) x 2^-8 = 2e-4 of an
// update, and an update is some hundredths of the weights: a few 1e-6 of them. So the bounds of
// fp32 moments hold, the weights' doubled (6e-6 was found). Words drawn by the element of the
// rank's own part, or of its shard, are beyond them: 8e-5 of the weights and more, 3e-5 of a loss
// or norm.
TEST(Layout, Bf16MomentsAreTheSameInEveryLayout) {
  const Layout layouts[] = {{.tp = 2},
                            {.pp = 2},
                            {.dp = 2},
                            {.dp = 2, .zero = 1},
                            {.dp = 2, .zero = 3},
                            {.gpt2 = true, .tp = 2, .pp = 2, .dp = 2, .zero = 2}};
  for (const bool stochastic : {false, true}) {
    std::map<bool, Result> alone;
    for (const bool gpt2 : {false, true})
      alone[gpt2] = train({.gpt2 = gpt2, .moment_dtype = DType::bf16, .stochastic = stochastic});
    for (Layout layout : layouts) {
      layout.moment_dtype = DType::bf16;
      layout.stochastic = stochastic;
      compare(train(layout), alone[layout.gpt2], layout.to_string() + " bf16 moments", 2e-5);
    }
  }
}

// Micro-batches so long that their rows travel in several chunks.
TEST(Layout, RowsTravelInChunks) {
  for (Layout layout : {Layout{.gpt2 = true, .tp = 2, .dropout = 0.1}, Layout{.tp = 4}}) {
    layout.batch = 1;
    layout.length = 1024;
    layout.steps = 1;
    Layout alone = layout;
    alone.tp = 1;
    compare(train(layout), train(alone), layout.to_string() + " in chunks");
  }
}

}  // namespace
}  // namespace forja
