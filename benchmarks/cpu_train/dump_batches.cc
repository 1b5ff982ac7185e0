// SPDX-License-Identifier: Apache-2.0
// dump_batches CONFIG STEPS OUT: the tokens of a run's first steps as raw int32 [steps, global
// batch, T + 1], so that a peer trains on the same batches.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "forja/base/file.h"
#include "forja/train/run_config.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: dump_batches CONFIG STEPS OUT\n");
    return 2;
  }
  try {
    const forja::RunConfig config = forja::read_run_config(argv[1], {});
    const forja::SampleStream data =
        forja::open_training_data(config.data, uint64_t(config.train.seed));
    const int64_t samples = forja::samples_before_step(config.train, std::atoll(argv[2]) + 1);
    std::vector<int32_t> tokens(size_t(config.data.sequence_length) + 1);
    forja::AtomicFile out(argv[3]);
    for (int64_t s = 0; s < samples; ++s) {
      data.read(s, tokens.data(), nullptr);
      out.write(tokens.data(), int64_t(tokens.size()) * 4);
    }
    out.commit();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
