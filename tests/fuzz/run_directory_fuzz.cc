// SPDX-License-Identifier: Apache-2.0
// The files of a run's directory, as a report and a resumed run read them.
#include "forja/report/run_report.h"
#include "forja/train/metrics_log.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  const std::vector<std::string> names = {"metrics.jsonl", "config.yaml", "run.json"};
  sandbox.write_parts(fuzzing::text_of(data, size), names);
  fuzzing::accepts([&] {
    const std::string page = render_run_report(sandbox.path());
    fuzzing::require(page.size() < (2 << 20), "a report stays below 2 MB");
  });
  fuzzing::accepts([&] { MetricsLog(sandbox.file("metrics.jsonl"), 2); });
  sandbox.require_untouched(names);
  return 0;
}
