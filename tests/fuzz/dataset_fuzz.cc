// SPDX-License-Identifier: Apache-2.0
// A tokenized dataset: its manifest, the tokens and the ends of documents of a shard.
#include "forja/data/dataset.h"

#include <algorithm>

#include "tests/fuzz/fuzzing.h"

namespace forja {
namespace {

// Whatever the shards hold, what is read stays within the vocabulary and the stream.
void use(const Dataset& dataset) {
  const int64_t count = std::min<int64_t>(dataset.num_tokens(), 1000);
  const int64_t first = dataset.num_tokens() - count;
  std::vector<int32_t> tokens(static_cast<size_t>(count)), starts;
  dataset.prefetch(first, count);
  fuzzing::accepts([&] {
    dataset.read(first, count, tokens.data());
    for (const int32_t token : tokens)
      fuzzing::require(token >= 0 && token < dataset.info().vocab_size,
                       "tokens are in the vocabulary");
  });
  fuzzing::accepts([&] {
    dataset.document_starts(first, count, &starts);
    fuzzing::require(std::is_sorted(starts.begin(), starts.end()), "documents start in order");
    for (const int32_t start : starts)
      fuzzing::require(start >= 0 && start < count, "documents start in the range");
  });
  for (int64_t d = 0; d < std::min<int64_t>(dataset.num_documents(), 100); ++d) {
    fuzzing::accepts([&] {
      int64_t begin = 0, end = 0;
      dataset.document_range(d, &begin, &end);
      fuzzing::require(0 <= begin && begin < end && end <= dataset.num_tokens(),
                       "a document lies in the stream");
    });
  }
  fuzzing::accepts([&] { dataset.verify(); });
}

}  // namespace
}  // namespace forja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  const std::vector<std::string> names = {"manifest.json", "shard-00000.tokens",
                                          "shard-00000.documents"};
  sandbox.write_parts(fuzzing::text_of(data, size), names);
  fuzzing::accepts([&] {
    const Dataset dataset(sandbox.path());
    const std::string printed = print_manifest(dataset.info());
    fuzzing::require(print_manifest(parse_manifest(printed, "manifest.json")) == printed,
                     "a written manifest reads back");
    use(dataset);
  });
  fuzzing::accepts([&] { describe_dataset(sandbox.path(), false); });
  sandbox.require_untouched(names);
  return 0;
}
