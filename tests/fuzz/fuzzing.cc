// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzzing.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace forja::fuzzing {
namespace fs = std::filesystem;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

Sandbox::Sandbox() : root_((fs::temp_directory_path() / "forja-fuzz-XXXXXX").string()) {
  require(::mkdtemp(root_.data()) != nullptr, "a folder can be made in $TMPDIR");
  path_ = root_ + "/inside";
  fs::create_directory(path_);
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void Sandbox::write(const std::string& name, std::string_view bytes) const {
  const int fd = ::open(file(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  require(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == ssize_t(bytes.size()),
          "a file can be written in $TMPDIR");
  ::close(fd);
}

void Sandbox::write_parts(std::string_view input, const std::vector<std::string>& names) const {
  constexpr std::string_view kDivider = "\n@@\n";
  bool there = true;
  for (const std::string& name : names) {
    if (!there) {
      ::unlink(file(name).c_str());
      continue;
    }
    const size_t end = input.find(kDivider);
    write(name, input.substr(0, end));
    there = end != input.npos;
    if (there) input.remove_prefix(end + kDivider.size());
  }
}

void Sandbox::require_untouched(const std::vector<std::string>& names) const {
  size_t beside = 0;
  for (const auto& item : fs::directory_iterator(root_)) beside += item.path() != path_;
  require(beside == 0, "nothing is written beside the folder");
  for (const auto& item : fs::directory_iterator(path_)) {
    const std::string name = item.path().filename();
    require(std::find(names.begin(), names.end(), name) != names.end(),
            "nothing is written into the folder");
  }
}

}  // namespace forja::fuzzing
