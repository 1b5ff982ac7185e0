// SPDX-License-Identifier: Apache-2.0
// Lines for people, on standard error. One rank prints: the others stay silent unless something
// failed there. Process-wide and thread-safe: which rank this process is does not change after
// start.
#pragma once

#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace forja {

enum class LogLevel { info, warning, error };

// Rank 0 prints info and warnings; every rank prints errors, with its rank where there are several.
void set_log_rank(int rank, int world_size);

void log_line(LogLevel level, std::string_view text);

// Draws `text` over the live line when standard error is a terminal ("" removes it); false where it
// is not.
bool log_live(std::string_view text);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace forja
