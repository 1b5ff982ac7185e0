// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/new_directory.h"

#include <filesystem>

#include "forja/base/error.h"
#include "forja/base/file.h"

namespace forja {
namespace fs = std::filesystem;

NewDirectory::NewDirectory(std::string name) : name_(std::move(name)) {
  while (name_.size() > 1 && name_.ends_with('/')) name_.pop_back();
  if (fs::exists(name_) && !(fs::is_directory(name_) && fs::is_empty(name_))) {
    fail_input("{} is there already{}: choose another name, or remove it", name_,
               fs::is_directory(name_) ? " and not empty" : "");
  }
  check_writable(name_);
  partial_ = name_ + ".partial";
  fs::remove_all(partial_);  // what an interrupted command left
  make_directories(partial_);
}

NewDirectory::~NewDirectory() {
  std::error_code ignored;
  if (!partial_.empty()) fs::remove_all(partial_, ignored);
}

void NewDirectory::commit() {
  sync_directory(partial_);
  std::error_code error;
  fs::rename(partial_, name_, error);  // also onto an empty directory
  if (error) fail("cannot rename {} to {}: {}", partial_, name_, error.message());
  partial_.clear();
  const std::string parent = fs::path(name_).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

}  // namespace forja
