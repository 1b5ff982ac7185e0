// SPDX-License-Identifier: Apache-2.0
#include "forja/base/log.h"

#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <string>

namespace forja {
namespace {

std::mutex mutex;
int log_rank = 0, log_world = 1;
bool live_shown = false;

}  // namespace

void set_log_rank(int rank, int world_size) {
  std::lock_guard lock(mutex);
  log_rank = rank;
  log_world = world_size;
}

void log_line(LogLevel level, std::string_view text) {
  std::lock_guard lock(mutex);
  if (log_rank != 0 && level != LogLevel::error) return;
  const char* prefix = level == LogLevel::info      ? ""
                       : level == LogLevel::warning ? "warning: "
                                                    : "error: ";
  std::string line = live_shown ? "\r\033[K" : "";
  line += prefix;
  if (level == LogLevel::error && log_world > 1) line += fmt::format("rank {}: ", log_rank);
  line += text;
  line += '\n';
  live_shown = false;
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

bool log_live(std::string_view text) {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  std::lock_guard lock(mutex);
  if (!terminal) return false;
  if (log_rank != 0) return true;
  if (text.empty() && !live_shown) return true;
  std::string line = "\r\033[K";
  line += text;
  live_shown = !text.empty();
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
  return true;
}

}  // namespace forja
