// SPDX-License-Identifier: Apache-2.0
// tokenizer.model: a SentencePiece model, or tiktoken's lines of "base64 rank".
#include "forja/data/tokenizer.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  sandbox.write("tokenizer.model", fuzzing::text_of(data, size));
  fuzzing::accepts([&] { fuzzing::use_tokenizer(*load_tokenizer(sandbox.path())); });
  return 0;
}
