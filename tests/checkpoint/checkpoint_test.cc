// SPDX-License-Identifier: Apache-2.0
// Saving and loading without a run: what is kept, what is read, what a failure leaves.
#include "forja/checkpoint/checkpoint.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>

#include "tests/checkpoint/small_checkpoint.h"
#include "tests/testing/local_world.h"

namespace {
std::mutex sync_mutex;
std::vector<std::string> synced;  // in this order
std::function<void(const std::string&)> before_sync;
}  // namespace

extern "C" int fsync(int fd) {
  {
    const std::lock_guard lock(sync_mutex);
    const std::string path = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd));
    if (before_sync) before_sync(path);
    synced.push_back(path);
  }
  return int(::syscall(SYS_fsync, fd));
}

namespace forja {
namespace {
namespace fs = std::filesystem;

std::set<std::string> names_in(const std::string& directory) {
  std::set<std::string> out;
  for (const auto& item : fs::directory_iterator(directory)) out.insert(item.path().filename());
  return out;
}

class CheckpointTest : public ::testing::Test {
 protected:
  // Saves every step of first..last in turn.
  void save_steps(int64_t first, int64_t last, int64_t keep_last, int64_t keep_every) {
    for (int64_t step = first; step <= last; ++step)
      save_small(small_, directory_, step, *self_, keep_last, keep_every);
  }

  testing::TemporaryDirectory folder_;
  const std::string directory_ = folder_.file("checkpoints");
  const std::unique_ptr<Communicator> self_ = make_self_communicator();
  SmallStore small_;
};

TEST_F(CheckpointTest, KeepsTheLastAndThoseOfEverySoManySteps) {
  save_steps(1, 11, 2, 4);
  const std::set<std::string> expected = {"latest", "step-00000004", "step-00000008",
                                          "step-00000010", "step-00000011"};
  EXPECT_EQ(names_in(directory_), expected);
  EXPECT_EQ(list_checkpoints(directory_).size(), 4u) << "the link is no checkpoint of its own";
  EXPECT_EQ(fs::read_symlink(directory_ + "/latest"), "step-00000011");
  EXPECT_TRUE(is_checkpoint(directory_ + "/latest"));
  EXPECT_EQ(read_checkpoint_state(directory_ + "/latest").step, 11);
}

// The run went back behind a damaged checkpoint: what it saves then is not the older one.
TEST_F(CheckpointTest, WhatIsNewerThanTheRunDoesNotCountAsKept) {
  save_steps(4, 9, 0, 0);
  save_small(small_, directory_, 6, *self_, 1);
  const std::set<std::string> expected = {"latest", "step-00000006", "step-00000007",
                                          "step-00000008", "step-00000009"};
  EXPECT_EQ(names_in(directory_), expected);
  EXPECT_EQ(fs::read_symlink(directory_ + "/latest"), "step-00000006");
}

TEST_F(CheckpointTest, TheStateIsReplacedAndNothingElse) {
  small_.fill(3.0f);
  save_steps(4, 4, 0, 0);
  const std::string path = directory_ + "/step-00000004",
                    before = read_file(path + "/manifest.json");
  EXPECT_EQ(before.find("spikes"), before.npos);
  TrainState state = read_checkpoint_state(path);
  EXPECT_EQ(state.spikes, SpikeState{}) << "older checkpoints have none";
  state.samples = 77;
  state.spikes = {.losses = {0.1, 1.0 / 3.0, 1e-300},
                  .gradient_norms = {2.0, 0.7},
                  .began = 3,
                  .rollbacks = 2,
                  .rolled_back_from = 9,
                  .rolled_back_to = 4};
  replace_checkpoint_state(path, state);
  SmallStore other;
  const TrainState found =
      load_checkpoint(other.context(), path, other.store(), CheckpointUse::training);
  other.expect_filled(3.0f);
  EXPECT_EQ(found.samples, 77);
  EXPECT_EQ(found.spikes, state.spikes) << "bit by bit";
  state.spikes = {};
  state.samples = 0;
  replace_checkpoint_state(path, state);
  EXPECT_EQ(read_file(path + "/manifest.json"), before);
}

TEST_F(CheckpointTest, WhatIsLaterThanAStepIsRemoved) {
  save_steps(4, 9, 0, 0);
  remove_checkpoints_after(directory_, 6);
  const std::set<std::string> expected = {"latest", "step-00000004", "step-00000005",
                                          "step-00000006"};
  EXPECT_EQ(names_in(directory_), expected);
  EXPECT_EQ(fs::read_symlink(directory_ + "/latest"), "step-00000006");
  remove_checkpoints_after(directory_, 6);
  EXPECT_EQ(names_in(directory_), expected);
}

// A loss of power leaves no checkpoint behind what the run says of its steps.
TEST_F(CheckpointTest, LogsAreOnTheDiskBeforeACheckpointHasItsName) {
  const std::string log = folder_.file("metrics.jsonl"), name = directory_ + "/step-00000001";
  write_file(log, "{}\n");
  CheckpointParts parts(small_.store(), {}, nullptr);
  CheckpointWriter writer(parts, {directory_, "", 0, 0, {log, folder_.file("ranks.jsonl")}},
                          *self_);
  synced.clear();
  before_sync = [&](const std::string& path) {
    if (path == log) {
      EXPECT_FALSE(fs::exists(name));
    }
  };
  writer.begin(small_.context(), {.step = 1});
  writer.wait();
  before_sync = nullptr;
  EXPECT_EQ(std::count(synced.begin(), synced.end(), log), 1);
  EXPECT_EQ(synced.back(), directory_) << "with the name in it";
  EXPECT_TRUE(fs::exists(name));
}

TEST_F(CheckpointTest, LeftoversAreRemoved) {
  fs::create_directories(directory_ + "/step-00000003.partial");
  write_file(directory_ + "/step-00000003.partial/shard-00007.json", "[]");
  fs::create_symlink("nowhere", directory_ + "/latest.partial");
  save_steps(5, 5, 0, 0);
  EXPECT_EQ(names_in(directory_), (std::set<std::string>{"latest", "step-00000005"}));
}

// What is trained while a snapshot is written is not in the checkpoint.
TEST_F(CheckpointTest, ASnapshotIsOfTheStepAtWhichItWasTaken) {
  Arena planning("snapshot"), host("snapshot", {}, [&] {
    CheckpointParts planned(small_.store(), {}, &planning);
    return planning.peak_bytes();
  }());
  CheckpointParts parts(small_.store(), {}, &host);
  EXPECT_EQ(host.used_bytes(), planning.used_bytes());
  CheckpointWriter writer(parts, {directory_, "", 0, 0}, *self_);
  small_.fill(0.5f);
  writer.begin(small_.context(), {.step = 5});
  small_.fill(7.0f);
  EXPECT_TRUE(writer.under_way());
  EXPECT_NE(testing::error_of([&] {
              writer.begin(small_.context(), {.step = 6});
            }).find("the save of step 5 is under way"),
            std::string::npos);
  while (writer.under_way()) writer.poll();
  EXPECT_EQ(load_checkpoint(small_.context(), directory_ + "/latest", small_.store(),
                            CheckpointUse::training)
                .step,
            5);
  small_.expect_filled(0.5f);
}

// Every rank hears of it, nothing half-written stays, and the next save works.
TEST_F(CheckpointTest, AFailureOfOneRankIsAllOfTheirs) {
  testing::run_world(2, [&](World& world) {
    SmallStore small({.zero = 1, .shard_rank = world.rank(), .num_shards = 2});
    small.fill(0.0f);
    CheckpointParts parts(small.store(), {}, nullptr);
    CheckpointWriter good(parts, {directory_, "", 0, 0}, world.communicator());
    good.begin(small.context(), {.step = 1});
    good.wait();
    // Rank 1 does not see the folder that the others see.
    CheckpointWriter bad(parts, {world.rank() == 1 ? folder_.file("gone") : directory_, "", 0, 0},
                         world.communicator());
    bad.begin(small.context(), {.step = 2});
    const std::string message = testing::error_of([&] {
      while (bad.under_way()) bad.poll();
    });
    EXPECT_NE(message.find("rank 1: cannot write"), std::string::npos) << message;
    EXPECT_NE(message.find("shard-00001.safetensors"), std::string::npos) << message;
    EXPECT_FALSE(bad.under_way());
    world.communicator().barrier({"failed"}).wait();
    EXPECT_EQ(names_in(directory_), (std::set<std::string>{"latest", "step-00000001"}));
    world.communicator().barrier({"looked"}).wait();
    good.begin(small.context(), {.step = 3});
    good.wait();
    EXPECT_EQ(read_checkpoint_state(directory_ + "/latest").step, 3);
  });
}

// Saves in a layout of tp and dp_shard ranks.
void save_in(const std::string& directory, int tp, int shards, int64_t step) {
  testing::run_world(tp * shards, [&](World& world) {
    SmallStore small({.tp_rank = world.rank() % tp,
                      .tp_size = tp,
                      .zero = shards > 1 ? 1 : 0,
                      .shard_rank = world.rank() / tp,
                      .num_shards = shards});
    small.fill(0.25f);
    save_small(small, directory, step, world.communicator());
  });
}

TEST_F(CheckpointTest, LoadsInEveryOtherLayout) {
  const std::pair<int, int> layouts[] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}, {4, 1}};
  int64_t step = 0;
  for (const auto& [tp, shards] : layouts) {
    save_in(directory_, tp, shards, ++step);
    for (const auto& [to_tp, to_shards] : layouts) {
      for (int rank = 0; rank < to_tp * to_shards; ++rank) {
        for (const DType moments : {DType::f32, DType::bf16}) {
          SmallStore small({.moment_dtype = moments,
                            .tp_rank = rank % to_tp,
                            .tp_size = to_tp,
                            .zero = to_shards > 1 ? 1 : 0,
                            .shard_rank = rank / to_tp,
                            .num_shards = to_shards});
          SCOPED_TRACE(fmt::format("tp {} x {} to tp {} x {}, rank {}, {} moments", tp, shards,
                                   to_tp, to_shards, rank, dtype_name(moments)));
          load_checkpoint(small.context(), directory_ + "/latest", small.store(),
                          CheckpointUse::training);
          small.expect_filled(0.25f);
        }
      }
    }
  }
}

// Damage in what a rank does not need is not its matter.
TEST_F(CheckpointTest, ReadsOnlyWhatTheRankNeeds) {
  save_in(directory_, 1, 2, 1);
  const std::string shard = directory_ + "/latest/shard-00001.safetensors";
  std::string bytes = read_file(shard);
  bytes.back() ^= 1;
  write_file(shard, bytes);
  const auto load = [&](int rank) {
    SmallStore small({.zero = 1, .shard_rank = rank, .num_shards = 2});
    load_checkpoint(small.context(), directory_ + "/latest", small.store(),
                    CheckpointUse::training);
    small.expect_filled(0.25f);
  };
  load(0);
  EXPECT_NE(testing::error_of([&] { load(1); }, ExitCode::bad_input)
                .find("shard-00001.safetensors: tensor second_moment/"),
            std::string::npos);
  fs::remove(shard);
  load(0);
  EXPECT_NE(testing::error_of([&] { load(1); }, ExitCode::bad_input).find("is missing"),
            std::string::npos);
}

}  // namespace
}  // namespace forja
