// SPDX-License-Identifier: Apache-2.0
#include "forja/train/lr_schedule.h"

#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(LearningRate, WarmupReachesThePeak) {
  const LrScheduleConfig s{"cosine", 10, 0.1, 0};
  EXPECT_DOUBLE_EQ(learning_rate(s, 1.0, 1, 100), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 1.0, 10, 100), 1.0);
}

TEST(LearningRate, EveryScheduleEndsWhereItShould) {
  for (const char* name : {"linear", "cosine", "wsd"}) {
    EXPECT_NEAR(learning_rate({name, 0, 0.1, 0}, 1.0, 100, 100), 0.1, 1e-12) << name;
  }
  EXPECT_EQ(learning_rate({"constant", 0, 0.1, 0}, 1.0, 100, 100), 1.0);
}

TEST(LearningRate, Shapes) {
  EXPECT_NEAR(learning_rate({"cosine", 0, 0.0, 0}, 1.0, 50, 100), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate({"linear", 20, 0.0, 0}, 1.0, 60, 100), 0.5, 1e-12);
  EXPECT_EQ(learning_rate({"wsd", 0, 0.0, 20}, 1.0, 80, 100), 1.0);
  EXPECT_NEAR(learning_rate({"wsd", 0, 0.0, 20}, 1.0, 90, 100), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate({"wsd", 0, 0.0, 0}, 1.0, 95, 100), 0.5, 1e-12)
      << "a tenth of the run by default";
}

}  // namespace
}  // namespace forja
