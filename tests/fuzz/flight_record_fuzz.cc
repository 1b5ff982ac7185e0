// SPDX-License-Identifier: Apache-2.0
// A flight record, whose header and first entries are the input and whose others are zero.
#include <algorithm>
#include <cstring>
#include <vector>

#include "csrc/comm/flight_layout.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  std::string file(sizeof(flight::Layout), '\0');
  std::memcpy(file.data(), data, std::min(size, file.size()));
  sandbox.write("rank-00000", file);
  fuzzing::accepts([&] { describe_flight_records(sandbox.path(), 100); });
  sandbox.require_untouched({"rank-00000"});
  return 0;
}
