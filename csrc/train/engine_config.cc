// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/engine_config.h"

namespace forja {

EngineConfig engine_config(const RunConfig& config, Device device, int dp) {
  // The largest step of a ramp needs the most micro-batches; every one of them must divide.
  BatchShape shape = split_batch(config.train, config.train.global_batch_size, dp);
  if (config.train.batch_ramp.start > 0) {
    shape.micro_batch_size =
        split_batch(config.train, config.train.batch_ramp.start, dp).micro_batch_size;
    shape.num_microbatches = config.train.global_batch_size / dp / shape.micro_batch_size;
  }
  EngineConfig out;
  out.device = device;
  out.gpu_matmul = config.kernels.gpu_matmul();
  out.model = config.model;
  out.optimizer = config.optimizer;
  out.compute_dtype = config.compute_dtype();
  out.micro_batch_size = shape.micro_batch_size;
  out.num_microbatches = shape.num_microbatches;
  out.sequence_length = config.data.sequence_length;
  out.document_mask = config.data.masks_documents();
  out.parallel = config.parallel;
  out.rules = config.rules();
  out.preference = config.preference;
  out.bucket_bytes = config.parallel.bucket_mb << 20;
  out.seed = uint64_t(config.train.seed);
  out.snapshots = config.checkpoint.is_async(device) || !device.is_cpu();
  return out;
}

void check_layouts(const RunConfig& config, EngineConfig engine, const ParallelDims& dims) {
  check_layout(engine, dims);
  const int64_t start = config.train.batch_ramp.start;
  for (int64_t batch = start; start > 0 && batch < config.train.global_batch_size; batch += start) {
    engine.num_microbatches = batch / dims.dp / engine.micro_batch_size;
    check_layout(engine, dims);
  }
}

}  // namespace forja
