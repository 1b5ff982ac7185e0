// SPDX-License-Identifier: Apache-2.0
// A run directory belongs to one start of the run at a time: two would write over each other.
#pragma once

#include <string>

#include "forja/train/run_directory.h"

namespace forja {

// A directory that it made, and nobody wrote into, goes with it. Held as long as the object lives,
// and by nobody once the process has ended, however it did: the system knows it (flock), the file
// only says who has it; after an orderly end it is empty.
class RunLock {
 public:
  // Makes the directory. Waits a few seconds for a start that is ending; throws bad_input, naming
  // its host and process, where it does not. Where the file system has no locks, that is a warning.
  RunLock(const RunDirectory& directory, const std::string& host);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  std::string directory_;
  bool made_directory_;
  int fd_ = -1;
  bool held_ = false;
};

}  // namespace forja
