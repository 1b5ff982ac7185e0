// SPDX-License-Identifier: Apache-2.0
#include "forja/report/run_report.h"

#include <fmt/format.h>

#include "csrc/report/html.h"
#include "csrc/report/page.h"
#include "csrc/report/ranks_section.h"
#include "csrc/report/sections.h"

namespace forja {

std::string render_run_report(const std::string& run_dir) {
  const RunData run = read_run(run_dir);
  const XRange range = step_range(run);
  std::string charts, data;
  int halves = 0;  // charts that take half a row
  for (Chart& chart : make_charts(run)) {
    if (chart.id == "loss") chart.note = loss_table(run);
    if (chart.id == "time") chart.note = time_table(run);
    halves += !chart.tall;
    charts += render_chart(chart, range);
    data +=
        fmt::format("{}{}:{}", data.empty() ? "" : ",", script_string(chart.id), chart_data(chart));
  }
  return fill_template(page_skeleton(),
                       {{"title", escape_html(run.name)},
                        {"style", std::string(page_style())},
                        {"facts", header_section(run)},
                        {"tiles", tiles_section(run)},
                        {"warnings", warnings_section(run)},
                        {"charts", charts},
                        {"ranks", ranks_section(run_dir, run.info)},
                        {"environment", environment_section(run, halves % 2 == 0)},
                        {"config", config_section(run)},
                        {"data", fmt::format("{{\"range\":[{:.9g},{:.9g}],\"charts\":{{{}}}}}",
                                             range.low, range.high, data)},
                        {"script", std::string(page_script())}});
}

}  // namespace forja
