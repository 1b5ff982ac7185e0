// SPDX-License-Identifier: Apache-2.0
// A file of JSON objects, one a line, each with the "step" that it is of. Continues without a gap
// or a doubled step after a resume.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "forja/base/append_file.h"

namespace forja {

class StepLog {
 public:
  // Opens `path` for appending after dropping every line of a step beyond `last_step` (0: all), and
  // a last line that was cut short.
  StepLog(const std::string& path, int64_t last_step);

  // Into memory, until flush().
  void add(std::string_view object) {
    file_->add(object);
    file_->add("\n");
  }
  // What cannot be written waits for the next one.
  void flush() { file_->flush(); }

 private:
  std::unique_ptr<AppendFile> file_;
};

}  // namespace forja
