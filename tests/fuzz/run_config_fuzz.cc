// SPDX-License-Identifier: Apache-2.0
// A run's YAML. What is read, printed and read again is the same: runs and checkpoints keep the
// printed form.
#include "forja/train/run_config.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  std::string printed;
  const std::string text(fuzzing::text_of(data, size));
  const auto read = [](const std::string& yaml) {
    return read_run_config_text(yaml, "/nowhere/run.yaml").to_yaml();
  };
  if (!fuzzing::accepts([&] { printed = read(text); })) return 0;
  fuzzing::require(read(printed) == printed, "a printed run reads back as itself");
  return 0;
}
