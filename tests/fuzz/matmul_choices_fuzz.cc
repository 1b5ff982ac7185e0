// SPDX-License-Identifier: Apache-2.0
// The kept choices of matrix products. A file that is of no use is said and left alone: nothing
// comes out of it, and it is not written.
#include "forja/ops/matmul_choices.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  sandbox.write("matmul.json", fuzzing::text_of(data, size));
  MatmulChoices choices("a machine");
  const int64_t measured = choices.settle(sandbox.file("matmul.json"));
  fuzzing::require(measured == 0, "nothing is measured that is not wanted");
  sandbox.require_untouched({"matmul.json"});
  return 0;
}
