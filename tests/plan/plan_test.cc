// SPDX-License-Identifier: Apache-2.0
#include "forja/plan/schedule_report.h"
#include "forja/plan/timeline_svg.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ScheduleReport, UnitsCompareSchedulesOfDifferentStages) {
  const Schedule v = make_schedule("zb_v", 4, 1, 8);
  EXPECT_EQ(unit_times(v).stage_scale, std::vector<double>(8, 0.5));
  const std::string text = describe_schedule(v, simulate(v, unit_times(v)));
  EXPECT_TRUE(contains(text, "stages          8 on 4 ranks\n")) << text;
  EXPECT_TRUE(contains(text, "makespan        25.5 ")) << text;
  EXPECT_TRUE(contains(text, "bubble          5.9 % of the ranks' time (gpipe and 1f1b: 27.3 %)"))
      << text;
  EXPECT_TRUE(contains(text, "  3     3 4               94.1 %            4       1       8\n"))
      << text;
  EXPECT_FALSE(contains(text, "overlap")) << text;
  const Schedule dual = make_schedule("dualpipe_v", 4, 1, 8);
  EXPECT_TRUE(contains(describe_schedule(dual, simulate(dual, unit_times(dual))), "overlap"));
}

TEST(TimelineSvg, EscapesTheCaptionAndWrapsIt) {
  Schedule schedule = make_schedule("1f1b", 2, 1, 3);
  const std::string caption = "<b> & \"" + std::string(400, 'x') + " y";
  const std::string svg = render_timeline_svg(schedule, simulate(schedule, {}), caption);
  EXPECT_TRUE(contains(svg, "&lt;b&gt; &amp; &quot;xxx"));
  EXPECT_FALSE(contains(svg, "<b>"));
  EXPECT_TRUE(contains(svg, ">y</text>")) << "on a line of its own";
}

// Thousands of cells: a picture of bounded width, without numbers that nobody could read.
TEST(TimelineSvg, StaysSmall) {
  const Schedule schedule = make_schedule("1f1b", 32, 1, 512);
  const std::string svg = render_timeline_svg(schedule, simulate(schedule, {}), "large");
  EXPECT_LT(svg.size(), size_t(4) << 20);
  EXPECT_TRUE(contains(svg, ">rank 31</text>"));
  EXPECT_FALSE(contains(svg, ">511</text>"));
}

}  // namespace
}  // namespace forja
