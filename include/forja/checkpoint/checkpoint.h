// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a directory of safetensors shards and a manifest.json. It is written beside, synced,
// then renamed: what has the name is whole. Any layout loads it. checkpoint_writer.h writes them.
//
// A checkpoint may come from anybody: what reads one opens no file outside of its directory, also
// not through a symbolic link, writes nothing, and allocates no more than its files are large.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forja/base/read_ahead.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// What loss spikes are told by (train.spikes), and where the run stands in one.
struct SpikeState {
  std::vector<double> losses, gradient_norms;  // of the last accepted steps, oldest first; finite
  int64_t began = 0;                           // since this step all were above the limit; 0: none
  int64_t rollbacks = 0;                       // for the present spike, the last of them ...
  int64_t rolled_back_from = 0, rolled_back_to = 0;  // ... between these steps
  bool operator==(const SpikeState&) const = default;
};

// Where a run stands. Everything random is a pure function of the seed and these.
struct TrainState {
  int64_t step = 0;         // steps done
  int64_t samples = 0;      // sequences consumed
  int64_t tokens = 0;       // trained on, padding not counted
  int64_t num_updates = 0;  // optimizer updates done (skipped steps do not count)
  uint64_t seed = 0;
  SpikeState spikes;
};

// "step-00000100".
std::string checkpoint_name(int64_t step);

enum class CheckpointUse {
  weights,   // nothing else
  training,  // and the optimizer's moments, which a converted model has not
};

using ParameterFilter = std::function<bool(const ParameterSpec&)>;

// Fills this rank's shards of the `wanted` parameters (all, where it is empty) and returns the
// state. Reads the stored parts that have some of their elements, and no others, ahead of their
// use; each is checked. Moments are converted to the store's dtype. Throws bad_input for a damaged
// file, a newer format, a missing part, or shapes that differ.
TrainState load_checkpoint(const Context& ctx, const std::string& path, ParameterStore& store,
                           CheckpointUse use, PageCache cache = PageCache::use,
                           const ParameterFilter& wanted = {});

// The step of "some/folder/step-00000100"; -1 where that is no checkpoint's name.
int64_t step_of_checkpoint(const std::string& path);
// The weights of a checkpoint, one parameter at a time: whole, in fp32, checksums verified.
class CheckpointWeights {
 public:
  explicit CheckpointWeights(const std::string& path);
  ~CheckpointWeights();
  // Throws bad_input for a missing parameter, and with both shapes where they differ.
  std::vector<float> read(const std::string& parameter, const std::vector<int64_t>& shape) const;
  // How it is stored: fp32 or bf16.
  DType dtype(const std::string& parameter) const;
  std::vector<std::string> names() const;

 private:
  struct Files;
  std::unique_ptr<Files> files_;
};

// Where the run stood.
TrainState read_checkpoint_state(const std::string& path);
// In which dtype its moments are.
DType checkpoint_moment_dtype(const std::string& path);

// Replaces what a checkpoint says of where the run stood; at any moment the old or the new is
// there.
void replace_checkpoint_state(const std::string& path, const TrainState& state);
// Removes the checkpoints of later steps; `latest` is then the newest that is left.
void remove_checkpoints_after(const std::string& directory, int64_t step);

// The checkpoints of a run's checkpoint directory, newest first; `latest`, which is a link to one
// of them, is not counted.
std::vector<std::string> list_checkpoints(const std::string& directory);
// The first of them, or nothing.
std::optional<std::string> latest_checkpoint(const std::string& directory);

bool is_checkpoint(const std::string& path);
// The config.yaml that was saved with it.
std::string checkpoint_config(const std::string& path);
// What it holds, in words; with `verify`, every checksum is checked (throws where one is wrong).
std::string describe_checkpoint(const std::string& path, bool verify);

}  // namespace forja
