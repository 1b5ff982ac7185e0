// SPDX-License-Identifier: Apache-2.0
// Saves a run while it goes on: training waits for one copy in memory, a thread of each rank writes
// it. A save has two phases, which the ranks end together, at the end of a step: every rank writes
// its shard, then the first one writes the manifest and gives the checkpoint its name, and takes
// theirs from those that are not kept any more, whose files it removes afterwards. Threads never
// communicate; the one that trains does, for them.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "forja/checkpoint/checkpoint.h"
#include "forja/comm/communicator.h"
#include "forja/device/arena.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Which of `count` ranks with the same parts of the parameters this one is: they share the writing.
struct CheckpointCopy {
  int index = 0, count = 1;
};

// What a rank writes of a state of a parameter: the local elements [begin, end).
struct CheckpointPart {
  std::string name;  // "model/layers.0.attention.qkv.weight"
  const Parameter* parameter;
  int64_t begin, end;
  Tensor state;   // where it is
  Tensor stored;  // what is written of it: a copy in host memory, or the same
};

// All that this rank writes: what it has and other ranks leave to it.
class CheckpointParts {
 public:
  // Copies come from `host`, an arena of the host (it may be a planning one); without, what is
  // written is the state itself, which is then in host memory and must not change meanwhile.
  CheckpointParts(const ParameterStore& store, const CheckpointCopy& copy, Arena* host);

  const std::vector<CheckpointPart>& all() const { return parts_; }
  bool are_copies() const { return copies_; }
  // Copies the state as it is now; waits for the device.
  void take(const Context& ctx);

 private:
  std::vector<CheckpointPart> parts_;
  bool copies_;
};

// Before a run goes on from its newest checkpoint: removes what a killed one left half-written in
// the folder of its checkpoints, and lets `latest` name that one. What it cannot do waits for the
// next save.
void tidy_checkpoints(const std::string& newest);

struct CheckpointOptions {
  std::string directory;    // of the run's checkpoints
  std::string config_yaml;  // resolved
  int64_t keep_last = 0;    // the newest so many are kept (0: all) ...
  int64_t keep_every = 0;   // ... and those of every so many steps (0: none)
  // Files of the run that go on with the step of a checkpoint: what has been written into those
  // that are there is on the disk before it has its name.
  std::vector<std::string> logs;
};

// Every call but under_way() and step() is collective.
class CheckpointWriter {
 public:
  // Neither the parts nor the group are owned.
  CheckpointWriter(CheckpointParts& parts, CheckpointOptions options, Communicator& group);
  // Waits for this rank's threads; what is under way is lost.
  ~CheckpointWriter() = default;

  // Begins to write <directory>/step-XXXXXXXX; nothing may be under way. Parts that are no copies
  // must not change before it has ended.
  void begin(const Context& ctx, const TrainState& state);
  bool under_way() const { return phase_ != Phase::none; }
  int64_t step() const { return state_.step; }  // of the save that is, or was, under way

  // Lets the save under way go on, waiting for nothing but the other ranks' call; or until it has
  // ended. Throws on every rank, naming the rank, when one of them failed: then nothing is under
  // way, nothing half-written stays and older checkpoints are as they were.
  void poll();
  void wait();

 private:
  enum class Phase { none, shards, commit };

  void prepare();
  void end_phase();
  void write_shard();
  void commit();
  std::future<void> in_thread(std::function<void()> work) const;
  std::string target() const { return options_.directory + "/" + checkpoint_name(state_.step); }
  std::string folder() const { return target() + ".partial"; }

  CheckpointParts& parts_;
  CheckpointOptions options_;
  Communicator& group_;
  std::vector<int> cpus_;  // of the threads
  Phase phase_ = Phase::none;
  TrainState state_;
  std::future<void> removal_;  // of what the last save replaced, on the first rank
  std::future<void> work_;     // this rank's in the phase; last: it ends before what it uses
};

}  // namespace forja
