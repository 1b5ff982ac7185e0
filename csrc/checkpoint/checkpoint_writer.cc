// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>

#include "csrc/checkpoint/manifest.h"
#include "csrc/checkpoint/state_names.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/log.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kPartial = ".partial";  // the end of the names of what is not whole

// What the shard holds, until the manifest says so.
std::string list_name(int rank) { return fmt::format("shard-{:05}.json", rank); }

// The local elements of this rank's shard that no other rank writes; none: begin >= end.
std::pair<int64_t, int64_t> own_range(const Parameter& p) {
  int64_t begin = p.end, end = p.begin;
  for (const ParameterRange& range : ranges_of_shard(p)) {
    if (!range.own) continue;
    FORJA_CHECK(begin >= end || range.begin == end, "{} is in several pieces", p.spec.name);
    begin = std::min(begin, range.begin);
    end = std::max(end, range.end);
  }
  return {begin, end};
}

// Appends a part to the shard; returns what the manifest says of it. The disk writes what came
// before while checksums are made.
StoredTensor write_part(const CheckpointPart& part, SafetensorsWriter& shard) {
  const Tensor& t = part.stored;
  const auto* const data = static_cast<const uint8_t*>(t.data);
  std::vector<std::string> checksums;
  for (int64_t at = 0; at < t.num_bytes(); at += kPieceBytes) {
    const int64_t bytes = std::min(kPieceBytes, t.num_bytes() - at);
    checksums.push_back(hash_hex(hash_bytes(data + at, bytes)));
    shard.write(data + at, bytes);
  }
  return {.name = part.name,
          .dtype = t.dtype,
          .checksums = std::move(checksums),
          .shape = part.parameter->spec.shape,
          .block = part.parameter->block,
          .begin = part.begin,
          .end = part.end};
}

// Runs `body`; afterwards every rank throws when one of them failed, with the message of the first
// that did.
void agree(Communicator& group, const std::function<void()>& body) {
  std::string message;
  try {
    body();
  } catch (const std::exception& e) {
    message = e.what();
  }
  const int64_t nobody = group.size();
  int64_t failed = message.empty() ? nobody : group.rank();
  const CommLabel label{"checkpoint agreement"};
  group.all_reduce(make_tensor(&failed, DType::i64, {1}), ReduceOp::min, label).wait();
  if (failed == nobody) return;
  std::array<char, 1024> text{};
  if (failed == group.rank()) message.copy(text.data(), text.size() - 1);
  group.broadcast(make_tensor(text.data(), DType::u8, {int64_t(text.size())}), int(failed), label)
      .wait();
  fail("{}{}", group.size() > 1 ? fmt::format("rank {}: ", failed) : "", text.data());
}

// Removes what saves that were cut off have left.
void remove_partial(const std::string& directory) {
  for (const auto& item : fs::directory_iterator(directory))
    if (item.path().string().ends_with(kPartial)) fs::remove_all(item.path());
}

// <directory>/latest names a checkpoint at any moment: a link made beside takes its place.
void point_latest_to(const std::string& target) {
  const fs::path latest = fs::path(target).parent_path() / "latest";
  const std::string beside = latest.string() + kPartial;
  std::error_code error;
  fs::remove(beside, error);
  fs::create_symlink(fs::path(target).filename(), beside, error);
  if (!error) fs::rename(beside, latest, error);
  if (!error) return;
  log_warning("{} does not name {}: {}", latest.string(), target, error.message());
  fs::remove(beside, error);
}

// Without its name first: what is left of it, should this be cut off, is no checkpoint. `error` is
// that it still has its name.
std::string without_name(const std::string& path, std::error_code& error) {
  fs::rename(path, path + kPartial, error);
  return path + kPartial;
}

// Takes their names from those that are not kept; returns what is left to be removed. Checkpoints
// of later steps are not counted: the run went back behind them, because they are damaged.
std::vector<std::string> retire_old(const CheckpointOptions& options, int64_t step) {
  std::vector<std::string> out;
  if (options.keep_last == 0) return out;
  int64_t newer = 0;
  for (const std::string& path : list_checkpoints(options.directory)) {
    const int64_t of = step_of_checkpoint(path);
    if (of > step || newer++ < options.keep_last) continue;
    if (options.keep_every > 0 && of % options.keep_every == 0) continue;
    std::error_code still_named;
    const std::string retired = without_name(path, still_named);
    if (!still_named) out.push_back(retired);
  }
  return out;
}

void remove_folders(const std::vector<std::string>& folders) {
  std::error_code ignored;  // the next save tries again
  for (const std::string& folder : folders) fs::remove_all(folder, ignored);
}

}  // namespace

void tidy_checkpoints(const std::string& newest) {
  const fs::path folder = fs::path(newest).parent_path(), name = fs::path(newest).filename();
  try {
    remove_partial(folder);
  } catch (const fs::filesystem_error& e) {
    log_warning("what is left of a save that was cut off cannot be removed: {}", e.what());
  }
  std::error_code error;
  if (fs::read_symlink(folder / "latest", error) != name) point_latest_to(newest);
}

void remove_checkpoints_after(const std::string& directory, int64_t step) {
  const std::vector<std::string> all = list_checkpoints(directory);
  const auto kept = std::find_if(all.begin(), all.end(), [&](const std::string& path) {
    return step_of_checkpoint(path) <= step;
  });
  if (kept != all.end()) point_latest_to(*kept);
  for (auto path = all.begin(); path != kept; ++path) {
    std::error_code error;
    const std::string unnamed = without_name(*path, error);
    if (error) fail("cannot remove {}: {}", *path, error.message());
    remove_folders({unnamed});
  }
}

// What is frozen stays where it came from. Of what several copies hold, each writes a share: the
// parameters that begin in its part of all elements.
CheckpointParts::CheckpointParts(const ParameterStore& store, const CheckpointCopy& copy,
                                 Arena* host)
    : copies_(host != nullptr) {
  int64_t total = 0, at = 0;
  for (const auto& p : store.all())
    if (p->spec.trainable) total += p->block.num_elements();
  for (const auto& p : store.all()) {
    if (!p->spec.trainable) continue;
    const int owner = int(at * copy.count / std::max<int64_t>(total, 1));
    at += p->block.num_elements();
    const auto [begin, end] = own_range(*p);
    if (owner != copy.index || begin >= end) continue;
    for (const auto& [kind, prefix] : kStateNames) {
      const Tensor state = shard_of(*p, kind).slice(0, begin - p->begin, end - p->begin);
      CheckpointPart part{prefix + p->spec.name, p.get(), begin, end, state, state};
      if (host) part.stored = allocate(*host, state.dtype, {end - begin});
      const auto& shape = p->spec.shape;
      if (end - begin == p->spec.num_elements() && shape.size() == 2)
        part.stored = part.stored.view({shape[0], shape[1]});
      parts_.push_back(part);
    }
  }
}

void CheckpointParts::take(const Context& ctx) {
  FORJA_CHECK(copies_ || ctx.device.is_cpu(), "a GPU's state is not in host memory");
  if (!copies_) return;
  for (const CheckpointPart& part : parts_)
    copy_bytes(ctx, part.stored.data, part.state.data, part.state.num_bytes());
  synchronize(ctx);
}

CheckpointWriter::CheckpointWriter(CheckpointParts& parts, CheckpointOptions options,
                                   Communicator& group)
    : parts_(parts), options_(std::move(options)), group_(group), cpus_(team_cpus()) {}

void CheckpointWriter::begin(const Context& ctx, const TrainState& state) {
  FORJA_CHECK(!under_way(), "the save of step {} is under way", state_.step);
  state_ = state;
  agree(group_, [this] { prepare(); });
  parts_.take(ctx);
  phase_ = Phase::shards;
  work_ = in_thread([this] { write_shard(); });
}

void CheckpointWriter::poll() {
  if (!under_way()) return;
  int64_t busy =
      work_.valid() && work_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
  group_.all_reduce(make_tensor(&busy, DType::i64, {1}), ReduceOp::max, {"checkpoint progress"})
      .wait();
  if (busy == 0) end_phase();
}

void CheckpointWriter::wait() {
  while (under_way()) end_phase();
}

void CheckpointWriter::prepare() {
  if (group_.rank() != 0) return;
  if (removal_.valid()) removal_.wait();
  make_directories(options_.directory);
  remove_partial(options_.directory);
  make_directories(folder());
}

// Waits for every rank's work of the phase; begins the next one.
void CheckpointWriter::end_phase() {
  try {
    agree(group_, [this] {
      if (work_.valid()) work_.get();
    });
  } catch (...) {
    phase_ = Phase::none;
    std::error_code ignored;
    if (group_.rank() == 0) fs::remove_all(folder(), ignored);
    throw;
  }
  phase_ = phase_ == Phase::shards ? Phase::commit : Phase::none;
  if (phase_ == Phase::commit && group_.rank() == 0) work_ = in_thread([this] { commit(); });
}

// In a thread, which begins bound to the core of the one that makes it. That none can be made is a
// failure of the work like any other.
std::future<void> CheckpointWriter::in_thread(std::function<void()> work) const {
  try {
    return std::async(std::launch::async, [cpus = cpus_, work = std::move(work)] {
      run_on_cpus(cpus);
      work();
    });
  } catch (const std::system_error&) {
    std::promise<void> failed;
    failed.set_exception(std::current_exception());
    return failed.get_future();
  }
}

void CheckpointWriter::write_shard() {
  const int rank = group_.rank();
  std::vector<SafetensorsInfo> infos;
  for (const CheckpointPart& part : parts_.all())
    infos.push_back(safetensors_info(part.name, part.stored));
  SafetensorsWriter shard(folder() + "/" + checkpoint_shard_name(rank), infos,
                          {{"format", "forja"}});
  Json list = Json::array();
  for (const CheckpointPart& part : parts_.all()) list.push_back(to_json(write_part(part, shard)));
  shard.commit();
  write_file(folder() + "/" + list_name(rank), list.dump());
}

void CheckpointWriter::commit() {
  const std::string from = folder(), to = target(), replaced = to + ".replaced" + kPartial;
  Json shards = Json::array();
  for (int r = 0; r < group_.size(); ++r) {
    const std::string list = from + "/" + list_name(r);
    shards.push_back({{"file", checkpoint_shard_name(r)},
                      {"bytes", int64_t(fs::file_size(from + "/" + checkpoint_shard_name(r)))},
                      {"tensors", Json::parse(read_file(list))}});
    fs::remove(list);
  }
  write_file(from + "/config.yaml", options_.config_yaml);
  write_manifest(from, state_, shards);
  sync_directory(from);
  for (const std::string& log : options_.logs)
    if (file_exists(log)) sync_file(log);
  // What has the name already is damaged, or the run would have gone on from it.
  std::vector<std::string> removed;
  if (fs::exists(to)) {
    fs::rename(to, replaced);
    removed.push_back(replaced);
  }
  fs::rename(from, to);
  sync_directory(options_.directory);
  point_latest_to(to);
  for (std::string& old : retire_old(options_, state_.step)) removed.push_back(std::move(old));
  // To give a checkpoint's room back takes a third of the time that it takes to write one.
  if (!removed.empty())
    removal_ = in_thread([this, removed = std::move(removed)] { remove_folders(removed); });
}

}  // namespace forja
