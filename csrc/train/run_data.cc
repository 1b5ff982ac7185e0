// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_data.h"

#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/base/philox.h"

namespace forja {

uint64_t content_hash(const SampleStream& stream) {
  uint64_t hash = stream.tokenizer_hash();
  for (int64_t i = 0; i < stream.num_sources(); ++i) {
    for (const ShardInfo& shard : stream.dataset(i).info().shards) {
      hash = mix_key(mix_key(hash, shard.tokens_hash), shard.learned_hash);
    }
  }
  return hash;
}

void check_kind(const SampleStream& stream, const RunConfig& config) {
  for (int64_t i = 0; i < stream.num_sources(); ++i) {
    const Dataset& dataset = stream.dataset(i);
    const bool pairs = dataset.info().kind == DatasetKind::preference_pairs;
    if (pairs == config.preference.is_on()) continue;
    fail_input("{} {}", dataset.directory(),
               pairs ? "holds preference pairs: set preference.loss"
                     : fmt::format("holds no preference pairs, of which preference.loss {} is",
                                   config.preference.loss));
  }
}

void tell_samples(const SampleStream& stream, const RunConfig& config) {
  for (int64_t i = 0; i < stream.num_sources(); ++i) {
    if (const auto& rows = stream.rows(i)) {
      log_info("{}: {}; an epoch is {:.1f} steps", config.data.train[size_t(i)].path,
               rows->in_words(), double(rows->num_rows()) / double(config.train.global_batch_size));
    }
  }
}

}  // namespace forja
