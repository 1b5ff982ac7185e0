// SPDX-License-Identifier: Apache-2.0
// A pipeline schedule as CSV: sizes in the first line ("ranks virtual_stages microbatches"), then
// the file. What is read, written and read again is the same.
#include "forja/parallel/schedule.h"

#include <cstdlib>

#include "forja/base/text.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  const std::string text(fuzzing::text_of(data, size));
  const size_t line = std::min(text.find('\n'), text.size() - (text.empty() ? 0 : 1));
  const std::vector<std::string> sizes = split(std::string_view(text).substr(0, line), ' ');
  const auto number = [&](size_t i) {
    return i < sizes.size() ? std::abs(std::atoi(sizes[i].c_str()) % 17) : 1;
  };
  const auto parse = [&](const std::string& csv) {
    return parse_schedule(csv, "schedule.csv", number(0), number(1), number(2));
  };
  fuzzing::accepts([&] {
    const Schedule schedule = parse(text.empty() ? "" : text.substr(line + 1));
    const std::string csv = to_csv(schedule);
    fuzzing::require(parse(csv).actions == schedule.actions, "a written schedule reads back");
    check_complete(add_communication(schedule));
  });
  return 0;
}
