// SPDX-License-Identifier: Apache-2.0
// A whole checkpoint: its manifest, its configuration and two shards. None of what reads it may
// change it, or anything beside it.
#include "forja/checkpoint/checkpoint.h"

#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  static const std::vector<std::string> names = {"manifest.json", "shard-00000.safetensors",
                                                 "shard-00001.safetensors", "config.yaml"};
  sandbox.write_parts(fuzzing::text_of(data, size), names);
  const std::string& path = sandbox.path();
  const bool good = fuzzing::accepts([&] { read_checkpoint_state(path); });
  const bool whole = fuzzing::accepts([&] { describe_checkpoint(path, true); });
  fuzzing::require(good || !whole, "the manifest of a checkpoint that is whole can be read");
  if (good)
    fuzzing::accepts([&] {
      const CheckpointWeights weights(path);
      for (const std::string& name : weights.names()) {
        weights.dtype(name);
        fuzzing::accepts([&] { weights.read(name, {16, 6}); });
      }
      // As large as a model's own configuration may say, which came with it.
      fuzzing::accepts([&] { weights.read("out", {int64_t(1) << 24, int64_t(1) << 24}); });
    });
  sandbox.require_untouched(names);
  return 0;
}
