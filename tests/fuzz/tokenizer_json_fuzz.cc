// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, and the tokenizer_config.json beside it.
#include "forja/data/tokenizer.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  sandbox.write_parts(fuzzing::text_of(data, size), {"tokenizer.json", "tokenizer_config.json"});
  fuzzing::accepts([&] { fuzzing::use_tokenizer(*load_tokenizer(sandbox.path())); });
  return 0;
}
