// SPDX-License-Identifier: Apache-2.0
// A file that a long run appends to, and whose failures do not end it: what cannot be written, for
// example because the disk is full, stays in memory and is tried again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace forja {

class AppendFile {
 public:
  enum class Open { existing_or_new, new_only };

  // Throws Error(failed) when it cannot be opened.
  AppendFile(const std::string& path, Open open);
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  // Flushes, silently.
  ~AppendFile();

  const std::string& path() const { return path_; }
  // Into memory; flush() writes it.
  void add(std::string_view text) { pending_ += text; }
  int64_t pending_bytes() const { return int64_t(pending_.size()); }
  // Hands what has been added to the operating system: it survives a crash of the process, not of
  // the machine. False where some of it could not be written, and waits; a warning tells that
  // once, and when all is written again.
  bool flush();

 private:
  // The error number of the write that failed; 0: none did.
  int write_pending();

  std::string path_, pending_;
  int fd_ = -1;
  bool waits_ = false;
};

}  // namespace forja
