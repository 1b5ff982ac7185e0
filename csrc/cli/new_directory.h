// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace forja {

// A directory that is filled beside its name, as <name>.partial: what has the name is whole.
// Without commit() nothing stays.
class NewDirectory {
 public:
  // Throws bad_input when the name is taken (an empty directory is not) or cannot be written.
  explicit NewDirectory(std::string name);
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;
  ~NewDirectory();

  const std::string& path() const { return partial_; }  // to write in
  void commit();

 private:
  std::string name_, partial_;
};

}  // namespace forja
