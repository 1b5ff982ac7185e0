// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/checks.h"

#include <fmt/core.h>

#include <filesystem>

#include "forja/base/error.h"
#include "forja/base/file.h"

namespace forja {
namespace fs = std::filesystem;

CLI::Validator number_from(double low, double high) {
  const std::string expected = high < std::numeric_limits<double>::infinity()
                                   ? fmt::format("between {} and {}", low, high)
                                   : fmt::format("{} or greater", low);
  const auto check = [=](const std::string& text) -> std::string {
    double value = 0.0;
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high) return "";
    return fmt::format("expected a number {}, found {}", expected, text);
  };
  return CLI::Validator(check, "");
}

void check_output_file(const std::string& file) {
  if (fs::is_directory(file)) fail_input("cannot write {}: it is a directory", file);
  std::string folder = fs::path(file).parent_path().string();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder)) fail_input("cannot write {}: there is no folder {}", file, folder);
  check_writable(folder);
}

}  // namespace forja
