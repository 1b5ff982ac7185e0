// SPDX-License-Identifier: Apache-2.0
// Training texts: the first byte of an input says which kind of file the rest is.
#include "forja/data/text_source.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  if (size == 0) return 0;
  const char* const extensions[] = {".jsonl", ".txt", ".jsonl.gz", ".jsonl.zst"};
  const bool is_array = data[0] & 0x40;
  const std::string name = std::string("x") + (is_array ? ".json" : extensions[data[0] % 4]);
  sandbox.write(name, fuzzing::text_of(data + 1, size - 1));
  TextSourceOptions options;
  if (data[0] >= 0x80) options.document_separator = "---";
  fuzzing::accepts([&] {
    TextSource source({sandbox.file(name)}, options);
    RawDocument document;
    while (source.next(&document))
      fuzzing::accepts([&] { document_text(std::move(document), options); });
  });
  return 0;
}
