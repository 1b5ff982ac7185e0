// SPDX-License-Identifier: Apache-2.0
// Errors: one exception type, one check macro. Only main() turns an Error into a process exit code.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace forja {

// The exit codes of every command.
enum class ExitCode {
  ok = 0,
  failed = 1,      // failed while running
  bad_input = 2,   // bad arguments, configuration or data
  preempted = 75,  // stopped by the scheduler with a checkpoint saved: start me again
};

// An error with the exit code that the process should end with. The message says what was expected,
// what was found, where, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws an Error: the user's input (arguments, configuration, files) is wrong.
template <class... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ExitCode::bad_input, fmt::format(format, std::forward<Args>(args)...));
}

// Throws an Error: the run failed.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ExitCode::failed, fmt::format(format, std::forward<Args>(args)...));
}

namespace internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);
}

}  // namespace forja

// FORJA_CHECK(condition, "format", args...): throws Error(failed) with file, line and the formatted
// message when the condition does not hold. Active in every build type.
#define FORJA_CHECK(condition, ...)                                                                \
  do {                                                                                             \
    if (!(condition)) [[unlikely]]                                                                 \
      ::forja::internal::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)
