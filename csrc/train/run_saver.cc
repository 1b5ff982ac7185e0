// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_saver.h"

#include <algorithm>

#include "forja/base/log.h"

namespace forja {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

RunSaver::RunSaver(TrainEngine& engine, const RunConfig& config, const RunDirectory& directory,
                   Communicator& ranks)
    : engine_(engine),
      is_async_(config.checkpoint.is_async(engine.context().device)),
      writer_(engine.checkpoint_parts(),
              {directory.checkpoints(),
               config.to_yaml(),
               config.checkpoint.keep_last,
               config.checkpoint.keep_every,
               {directory.metrics(), directory.ranks()}},
              ranks) {}

void RunSaver::save(const TrainState& state, bool must) {
  if (writer_.under_way() && !told_of_waiting_) {
    log_live("");
    log_info(
        "step {}: waiting for the checkpoint of step {}: to write one takes longer than "
        "checkpoint.every leaves for it (said once)",
        state.step, writer_.step());
    told_of_waiting_ = true;
  }
  finish();
  began_ = Clock::now();
  stall_s_ = 0.0;
  try {
    writer_.begin(engine_.context(), state);
    if (must || !is_async_) writer_.wait();
    on_progress(began_);
  } catch (const Error& e) {
    if (!must) return warn(e);
    fail(
        "step {}: no checkpoint was saved: {}. Older ones are whole: once that is mended, the same "
        "command goes on from the newest",
        state.step, e.what());
  }
}

void RunSaver::advance(void (CheckpointWriter::*how)()) {
  if (!writer_.under_way()) return;
  const auto begin = Clock::now();
  try {
    (writer_.*how)();
    on_progress(begin);
  } catch (const Error& e) {
    warn(e);
  }
}

// Training has waited since `begin`.
void RunSaver::on_progress(Clock::time_point begin) {
  stall_s_ += seconds_since(begin);
  if (writer_.under_way()) return;
  const double took_s = seconds_since(began_);
  longest_s_ = std::max(longest_s_, took_s);
  log_live("");
  log_info("step {}: checkpoint saved in {:.2f} s, for which training waited {:.3f} s",
           writer_.step(), took_s, stall_s_);
}

void RunSaver::warn(const Error& e) const {
  log_warning("step {}: no checkpoint was saved, the run goes on: {}", writer_.step(), e.what());
}

double RunSaver::time_needed_s(double guess_s) const {
  const double one_s = longest_s_ > 0.0 ? 1.5 * longest_s_ : guess_s;
  return writer_.under_way() ? 2.0 * one_s : one_s;
}

}  // namespace forja
