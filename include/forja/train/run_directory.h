// SPDX-License-Identifier: Apache-2.0
// The directory of a run: config.yaml, run.json, metrics.jsonl, ranks.jsonl, trace.json,
// tensorboard/, flight/, checkpoints/, report.html, and the lock of the start that writes them.
#pragma once

#include <string>
#include <vector>

#include "forja/train/run_config.h"

namespace forja {

class RunDirectory {
 public:
  explicit RunDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string config() const { return path_ + "/config.yaml"; }
  std::string run() const { return path_ + "/run.json"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  std::string ranks() const { return path_ + "/ranks.jsonl"; }
  std::string trace() const { return path_ + "/trace.json"; }
  std::string tensorboard() const { return path_ + "/tensorboard"; }
  std::string flight() const { return path_ + "/flight"; }
  std::string lock() const { return path_ + "/lock"; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }

  // The checkpoints to continue from, newest first. Throws bad_input when the directory holds
  // another run (naming what differs), or any run while train.resume is never. Writes nothing.
  std::vector<std::string> find_resume(const RunConfig& config) const;

  // Throws bad_input, naming what differs, when a checkpoint in this folder is of another run.
  void check_own(const RunConfig& config, const std::string& checkpoint) const;

  // Removes what a killed run left half-written, makes the folders and writes config.yaml. Throws
  // when the directory cannot be written.
  void prepare(const RunConfig& config) const;

 private:
  std::string path_;
};

}  // namespace forja
