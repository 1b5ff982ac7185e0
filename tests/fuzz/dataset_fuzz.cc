// SPDX-License-Identifier: Apache-2.0
// A tokenized dataset: its manifest, the tokens, the ends of documents and the mask of a shard.
#include "forja/data/dataset.h"
#include "forja/data/sample_rows.h"

#include <algorithm>

#include "tests/fuzz/fuzzing.h"

namespace forja {
namespace {

// Every position of a row is a token, a document and its target, or padding.
void use_rows(const Dataset& dataset) {
  constexpr int64_t kLength = 16;
  const SampleRows rows(dataset, {}, kLength);
  TrainingRow row;
  for (int64_t r = 0; r <= std::min<int64_t>(rows.num_rows(), 100); ++r) {
    rows.read(dataset, r, &row);
    fuzzing::require(row.tokens.size() == kLength && row.targets.size() == kLength,
                     "a row has its length");
    fuzzing::require(row.num_tokens >= 0 && row.num_tokens <= kLength, "a row is not overfull");
    for (size_t t = 0; t < kLength; ++t)
      fuzzing::require((row.targets[t] == kPadding) == (t >= size_t(row.num_tokens)),
                       "padding is at the end");
  }
}

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
    std::vector<uint8_t> learned(tokens.size());
    if (dataset.info().has_masks()) dataset.read_learned(first, count, learned.data());
    fuzzing::require(std::all_of(learned.begin(), learned.end(), [](uint8_t m) { return m < 2; }),
                     "a mask is of 0 and 1");
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
  fuzzing::accepts([&] { use_rows(dataset); });
  fuzzing::accepts([&] { dataset.verify(); });
}

}  // namespace
}  // namespace forja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  const std::vector<std::string> names = {"manifest.json", "shard-00000.tokens",
                                          "shard-00000.documents", "shard-00000.learned"};
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
